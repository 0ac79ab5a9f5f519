"""fakesnow's seventy transforms, each run only where it can find something to do.

fakesnow walks the whole statement once a transform, which takes most of a second for a large model. Nearly every
transform looks for one kind of node, and a statement holds few kinds; the ones that look at the statement as a whole
need no walk at all. A transform that is not known here is run as fakesnow runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import Expr, exp

WHOLE_STATEMENT = frozenset(
    {
        "alter_session",
        "alter_table_strip_cluster_by",
        "create_clone",
        "create_database",
        "create_file_format",
        "create_stage",
        "create_table_as",
        "create_user",
        "drop_schema_cascade",
        "extract_comment_on_columns",
        "extract_comment_on_table",
        "extract_text_length",
        "list_stage",
        "put_stage",
        "set_schema",
        "show_columns",
        "show_databases",
        "show_functions",
        "show_keys",
        "show_parameters",
        "show_procedures",
        "show_schemas",
        "show_sequences",
        "show_stages",
        "show_tables_etc",
        "show_users",
        "show_warehouses",
        "tag",
        "update_variables",
    }
)
"""Transforms that change the statement's own node, or none."""

NODES: dict[str, tuple[type[Any], ...]] = {
    "alias_in_join": (exp.Join,),
    "array_agg": (exp.ArrayAgg,),
    "array_agg_within_group": (exp.WithinGroup,),
    "array_construct_etc": (exp.ArrayConstructCompact, exp.Array, exp.ArrayConcat),
    "array_size": (exp.ArraySize,),
    "current_version": (exp.CurrentVersion,),
    "dateadd_date_cast": (exp.DateAdd,),
    "dateadd_string_literal_timestamp_cast": (exp.DateAdd,),
    "datediff_string_literal_timestamp_cast": (exp.DateDiff,),
    "flatten": (exp.Explode,),
    "flatten_value_cast_as_varchar": (exp.Explode,),
    "float_to_double": (exp.DataType,),
    "hex_string": (exp.HexString,),
    "indices_to_json_extract": (exp.Bracket,),
    "integer_precision": (exp.DataType,),
    "json_extract_cased_as_varchar": (exp.JSONExtract,),
    "json_extract_cast_as_varchar": (exp.JSONExtract,),
    "json_extract_precedence": (exp.JSONExtract, exp.JSONExtractScalar),
    "numeric_agg_implicit_cast": (
        exp.Sum,
        exp.Avg,
        exp.Variance,
        exp.Stddev,
        exp.StddevSamp,
        exp.StddevPop,
        exp.VariancePop,
        exp.Median,
    ),
    "object_agg": (exp.ObjectAgg,),
    "object_construct": (exp.Struct, exp.JSONObject, exp.StarMap),
    "random": (exp.Rand,),
    "regex_replace": (exp.RegexpReplace,),
    "regex_substr": (exp.RegexpExtract,),
    "result_scan": (exp.TableFromRows,),
    "sample": (exp.TableSample,),
    "semi_structured_types": (exp.DataType,),
    "split": (exp.Split,),
    "timestamp_ntz": (exp.DataType,),
    "timestamp_offsets": (exp.Cast,),
    "to_decimal": (exp.ToNumber,),
    "to_variant": (exp.ToVariant,),
    "trim_cast_varchar": (exp.Trim,),
    "values_columns": (exp.Values,),
}
"""Kinds of node without which a transform changes nothing."""

FUNCTIONS: dict[str, frozenset[str]] = {
    "alias_in_where": frozenset({"_FS_OBJECT_CONSTRUCT"}),
    "haversine": frozenset({"HAVERSINE"}),
    "identifier": frozenset({"IDENTIFIER"}),
    "sha256": frozenset({"SHA2_HEX", "SHA2_BINARY"}),
    "to_date": frozenset({"TO_DATE"}),
    "to_timestamp": frozenset({"TO_TIMESTAMP", "TO_TIMESTAMP_NTZ"}),
    "try_parse_json": frozenset({"TRY_PARSE_JSON"}),
    "upper_case_unquoted_identifiers": frozenset({"IDENTIFIER"}),
}
"""Functions unknown to sqlglot without which a transform changes nothing, unless a node of ALSO is there."""

ALSO: dict[str, tuple[type[Any], ...]] = {
    "identifier": (exp.DynamicIdentifier,),
    "sha256": (exp.SHA2, exp.SHA2Digest),
    "to_timestamp": (exp.UnixToTime, exp.Cast),
    "upper_case_unquoted_identifiers": (exp.DynamicIdentifier,),
}


class TransformChain:
    """Stands for a statement in fakesnow's chain of `.transform` calls; `expression` is the statement so far.

    The statement's unquoted identifiers must be in capitals already.
    """

    def __init__(self, expression: Expr) -> None:
        self.expression = expression
        self._look()

    def _look(self) -> None:
        self._kinds: set[type[Any]] = set()
        self._functions: set[str] = set()
        for node in self.expression.walk():
            self._kinds.add(type(node))
            if isinstance(node, exp.Anonymous):
                self._functions.add(str(node.this).upper())

    def transform(
        self, function: Callable[..., Expr], *arguments: object, copy: bool = False, **options: object
    ) -> TransformChain:
        """Apply one of fakesnow's transforms where it can change something."""
        name = _name(function)
        if name in WHOLE_STATEMENT:
            changed = function(self.expression, *arguments, **options)
            if changed is not self.expression:
                self.expression = changed
                self._look()
            return self
        if not self._may_change(name):
            return self
        self.expression = self.expression.transform(function, *arguments, copy=False, **options)
        self._look()
        return self

    def _may_change(self, name: str) -> bool:
        kinds = NODES.get(name)
        functions = FUNCTIONS.get(name)
        if kinds is None and functions is None:
            return True
        if functions is not None and functions & self._functions:
            return True
        wanted = kinds or ALSO.get(name, ())
        return any(issubclass(kind, wanted) for kind in self._kinds)


def _name(function: Callable[..., Any]) -> str:
    """The transform's name; for one that fakesnow wraps to pass more arguments, of what it wraps."""
    if function.__name__ != "<lambda>":
        return function.__name__
    names = function.__code__.co_names
    return names[1] if len(names) > 1 and names[0] == "transforms" else ""
