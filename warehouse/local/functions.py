"""Snowflake's functions where fakesnow's or sqlglot's translation to DuckDB is missing or answers differently.

`rewrite` runs before fakesnow's own transforms, `finish` after them. The macros they name are in macros.duckdb.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

from warehouse.local.dialect import TEXT_READER_PREFIX

MACROS = "_fs_global.sf."

SESSION_VARIABLES = {
    "currentrole": "sf_role",
    "currentwarehouse": "sf_warehouse",
    "currentuser": "sf_user",
    "currentsession": "sf_session",
}

_TIMESTAMP_TYPES = (exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPNTZ, exp.DataType.Type.DATETIME)

_TRUNCATION_UNITS = {
    "YEAR": "YEAR",
    "Y": "YEAR",
    "YYYY": "YEAR",
    "YY": "YEAR",
    "QUARTER": "QUARTER",
    "Q": "QUARTER",
    "QTR": "QUARTER",
    "MONTH": "MONTH",
    "MM": "MONTH",
    "MON": "MONTH",
    "WEEK": "WEEK",
    "W": "WEEK",
    "WEEK_ISO": "WEEK",
    "DAY": "DAY",
    "D": "DAY",
    "DD": "DAY",
    "HOUR": "HOUR",
    "H": "HOUR",
    "HH": "HOUR",
    "MINUTE": "MINUTE",
    "MI": "MINUTE",
    "SECOND": "SECOND",
    "S": "SECOND",
}

_DATE_FORMAT_PARTS = {
    "YYYY": "%Y",
    "YY": "%y",
    "MMMM": "%B",
    "MM": "%m",
    "MON": "%b",
    "DD": "%d",
    "DY": "%a",
    "HH24": "%H",
    "HH12": "%I",
    "MI": "%M",
    "SS": "%S",
    "FF9": "%n",
    "FF6": "%f",
    "FF3": "%g",
    "FF": "%n",
    "AM": "%p",
    "PM": "%p",
    "TZHTZM": "%z",
    "TZH:TZM": "%z",
    "TZH": "%z",
}
_DATE_FORMAT = re.compile(
    "|".join(sorted(map(re.escape, _DATE_FORMAT_PARTS), key=len, reverse=True)) + r'|"[^"]*"', re.IGNORECASE
)

_TRANSLATED_OR_PART = re.compile(r"%-?.|" + _DATE_FORMAT.pattern, re.IGNORECASE)


def rewrite(expression: Expr) -> Expr:
    """The statement with Snowflake's functions put so that the rest of the translation gives Snowflake's answers."""
    return expression.transform(_rewrite_node, copy=False)


def finish(expression: Expr) -> Expr:
    """The translated statement with fakesnow's macros named where they are and FLATTEN's options applied."""
    return expression.transform(_finish_node, copy=False)


def _rewrite_node(node: Expr) -> Expr:
    change = _REWRITES.get(node.key)
    return change(node) if change else node


def _finish_node(node: Expr) -> Expr:
    if isinstance(node, exp.Anonymous) and isinstance(node.this, str):
        name = node.this.upper()
        if name == "_FS_FLATTEN":
            argument = node.expressions[0]
            outer = isinstance(argument, exp.Anonymous) and argument.this == "_SF_OUTER"
            return _macro("flatten", argument.expressions[0] if outer else argument, exp.Boolean(this=outer))
        if name.startswith("_FS_") and "." not in name:
            node.set("this", f"_fs_global.main.{name.lower()}")
    return node


def _macro(name: str, *arguments: Expr) -> exp.Anonymous:
    return exp.Anonymous(this=f"{MACROS}{name}", expressions=list(arguments))


def _session_variable(node: Expr) -> Expr:
    return exp.Anonymous(this="GETVARIABLE", expressions=[exp.Literal.string(SESSION_VARIABLES[node.key])])


def _constant(value: str) -> Callable[[Expr], Expr]:
    return lambda _node: exp.Literal.string(value)


def _cast(node: Expr) -> Expr:
    if node.args["to"].this in _TIMESTAMP_TYPES:
        name = "try_to_timestamp" if isinstance(node, exp.TryCast) else "to_timestamp"
        return _macro(name, node.this)
    if node.args["to"].this in (exp.DataType.Type.TIMESTAMPTZ, exp.DataType.Type.TIMESTAMPLTZ):
        return _macro("try_to_instant" if isinstance(node, exp.TryCast) else "to_instant", node.this)
    if isinstance(node, exp.TryCast) and node.args["to"].this == exp.DataType.Type.DATE:
        return _macro("try_to_date", node.this)
    return node


def _compare_with_text(node: Expr) -> Expr:
    """A VARIANT's field compared with text is compared as text, not as JSON."""
    others = node.expressions if isinstance(node, exp.In) else [node.expression]
    if (
        isinstance(node.this, exp.JSONExtract)
        and others
        and all(isinstance(other, exp.Literal) and other.is_string for other in others)
    ):
        node.set("this", exp.JSONExtractScalar(this=node.this.this, expression=node.this.expression))
    return node


def _trim(node: Expr) -> Expr:
    """Hand fakesnow a TRIM it leaves alone: it takes LTRIM, RTRIM and the characters to trim for a plain TRIM."""
    value = node.this
    text = exp.DataType(this=exp.DataType.Type.VARCHAR)
    if not (
        isinstance(value, exp.Cast) and value.args["to"].this in (exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT)
    ):
        node.set("this", exp.Cast(this=value, to=text))
    return node


def _positional_column(node: Expr) -> Expr:
    """$1 of a VALUES list."""
    if isinstance(node.this, exp.Literal) and not node.this.is_string:
        return exp.column(f"COLUMN{node.name}")
    return node


def _text_to_date(node: Expr) -> Expr:
    text, form = node.this, node.args.get("format")
    if form is not None:
        if form.name.upper() == "AUTO":
            return _macro("try_to_date" if node.args.get("safe") else "to_date", text)
        return node
    return _macro("try_to_date" if node.args.get("safe") else "to_date", text)


def _anonymous(node: Expr) -> Expr:
    name = str(node.this).upper()
    arguments = node.expressions
    if name in ("TRY_TO_TIMESTAMP_NTZ", "TRY_TO_TIMESTAMP") and arguments:
        return _macro("try_to_timestamp", arguments[0])
    if name in ("TO_TIMESTAMP_NTZ", "TO_TIMESTAMP") and arguments:
        return _macro("to_timestamp", *arguments[:1])
    if name in ("TO_TIMESTAMP_TZ", "TO_TIMESTAMP_LTZ") and arguments:
        return _macro("to_instant", arguments[0])
    if name in ("TRY_TO_TIMESTAMP_TZ", "TRY_TO_TIMESTAMP_LTZ") and arguments:
        return _macro("try_to_instant", arguments[0])
    if name.startswith(TEXT_READER_PREFIX):
        return _macro(name.removeprefix(TEXT_READER_PREFIX).lower(), *arguments)
    if name == "HASH":
        return _macro("signed_hash", exp.Anonymous(this="HASH", expressions=[_whole_row(a) for a in arguments]))
    if name == "IS_ROLE_IN_SESSION":
        return exp.EQ(
            this=exp.Anonymous(this="GETVARIABLE", expressions=[exp.Literal.string("sf_role")]),
            expression=exp.Upper(this=arguments[0]),
        )
    return node


def _whole_row(argument: Expr) -> Expr:
    """A star as one value: every column of the row."""
    if not isinstance(argument, exp.Star):
        return argument
    return exp.Anonymous(this="STRUCT_PACK", expressions=[exp.var("*COLUMNS(*)")])


def _hash_agg(node: Expr) -> Expr:
    arguments = [node.this, *(node.expressions or [])]
    return _macro("hash_agg", exp.Anonymous(this="HASH", expressions=[_whole_row(a) for a in arguments if a]))


def _truncate_date(node: Expr) -> Expr:
    unit = node.args.get("unit")
    name = (unit.name if unit is not None else "").upper()
    if name not in _TRUNCATION_UNITS:
        return node
    value = node.this
    if isinstance(value, exp.Literal) and value.is_string:
        value = _macro("to_timestamp", value)
    # TIME_BUCKET keeps a DATE a DATE, as Snowflake does; DuckDB's DATE_TRUNC makes a TIMESTAMP of it.
    interval = exp.Interval(this=exp.Literal.string("1"), unit=exp.var(_TRUNCATION_UNITS[name]))
    return exp.Anonymous(this="TIME_BUCKET", expressions=[interval, value])


def _to_char(node: Expr) -> Expr:
    form = node.args.get("format")
    if form is None:
        return node
    text = _literal_text(form)
    if re.search(r"YY|MM|MON|DD|HH|MI|SS|DY|FF", text, re.IGNORECASE):
        pattern = _DATE_FORMAT.sub(
            lambda found: _DATE_FORMAT_PARTS.get(found[0].upper(), found[0].strip('"')), text.replace("%", "%%")
        )
        return _macro("format_time", node.this, exp.Literal.string(pattern))
    return _format_number(node.this, text)


def _literal_text(node: Expr) -> str:
    """The text of a literal, or of literals joined by ||."""
    if isinstance(node, exp.DPipe):
        return _literal_text(node.left) + _literal_text(node.right)
    if not (isinstance(node, exp.Literal) and node.is_string):
        raise NotImplementedError("TO_CHAR with a format that is not a literal")
    return str(node.name)


def _time_to_text(node: Expr) -> Expr:
    """sqlglot turns TO_CHAR of what it knows to be a time into this, and leaves the parts in mixed case (Mon)."""
    form = node.args.get("format")
    if isinstance(form, exp.DPipe):  # which it leaves alone
        return _to_char(node)
    if isinstance(form, exp.Literal):
        # sqlglot reads dd as a day without its leading zero, which no format of Snowflake's asks for.
        pattern = form.name.replace("%-d", "%d")
        form.set(
            "this",
            _TRANSLATED_OR_PART.sub(lambda found: _DATE_FORMAT_PARTS.get(found[0].upper(), found[0]), pattern),
        )
    return node


def _format_number(value: Expr, form: str) -> Expr:
    """Numbers by a format of 9, 0, D, G, '.', ',', S, MI, $ and FM; other elements are refused."""
    core = form.upper()
    fill = not core.startswith("FM")
    core = core.removeprefix("FM")
    if re.fullmatch(r"TM9?", core):
        return exp.Cast(this=value, to=exp.DataType(this=exp.DataType.Type.VARCHAR))
    if not re.fullmatch(r"[$S]?[90,G]+(?:[.D][90]+)?(?:MI)?", core):
        raise NotImplementedError(f"TO_CHAR with the number format '{form}'")
    whole, _, fraction = core.strip("$SMI").replace("D", ".").replace("G", ",").partition(".")
    digits = len(fraction)
    return _macro(
        "format_number",
        value,
        exp.Literal.number(digits),
        exp.Boolean(this="," in whole),
        exp.Literal.number(len(whole.replace(",", ""))),
        exp.Literal.number(whole.count("0")),
        exp.Literal.string("$" if core.startswith("$") else ""),
        exp.Literal.number(len(core.strip("S")) + 1 if fill else 0),
    )


def _regexp_replace(node: Expr) -> Expr:
    position, occurrence = node.args.get("position"), node.args.get("occurrence")
    flags = node.args.get("modifiers")
    if position is None and occurrence is None and flags is None:
        if isinstance(node.expression, exp.Literal):
            return node
    elif (position is not None and position.name != "1") or (
        occurrence is not None and occurrence.name not in ("0", "1")
    ):
        raise NotImplementedError("REGEXP_REPLACE from a position, or of one occurrence that is not the first")
    options = (flags.name if flags is not None else "").replace("c", "").replace("e", "").replace("m", "")
    everywhere = occurrence is None or occurrence.name == "0"
    pattern = node.expression.copy()
    replacement = node.args.get("replacement")
    return exp.Anonymous(
        this="REGEXP_REPLACE",
        expressions=[
            node.this,
            pattern,
            replacement.copy() if replacement is not None else exp.Literal.string(""),
            exp.Literal.string(options + ("g" if everywhere else "")),
        ],
    )


def _ratio_to_report(node: Expr) -> Expr:
    inner = node.this
    if not (
        inner.key == "ratiotoreport" or (isinstance(inner, exp.Anonymous) and inner.name.upper() == "RATIO_TO_REPORT")
    ):
        return node
    value = inner.this if not isinstance(inner, exp.Anonymous) else inner.expressions[0]
    total = node.copy()
    total.set("this", exp.Anonymous(this="SUM", expressions=[value.copy()]))
    double = exp.DataType(this=exp.DataType.Type.DOUBLE)
    return exp.Paren(
        this=exp.Div(
            this=exp.Cast(this=value.copy(), to=double),
            expression=exp.Nullif(this=total, expression=exp.Literal.number(0)),
        )
    )


def _width_bucket(node: Expr) -> Expr:
    return _macro("width_bucket", node.this, node.args["min_value"], node.args["max_value"], node.args["num_buckets"])


def _byte_length(node: Expr) -> Expr:
    return exp.Anonymous(this="STRLEN", expressions=[node.this])


def _md5_number(function: str) -> Callable[[Expr], Expr]:
    return lambda node: exp.Anonymous(this=function, expressions=[node.this])


def _flatten(node: Expr) -> Expr:
    """Leave FLATTEN one argument, its input, marked when the row of an empty input is kept."""
    options = {}
    positional = None
    for argument in [node.this, *(node.expressions or [])]:
        if isinstance(argument, exp.Kwarg):
            options[argument.this.name.upper()] = argument.expression
        elif argument is not None and positional is None:
            positional = argument
    value = options.get("INPUT", positional)
    if value is None or (not options and positional is None):
        return node
    if "RECURSIVE" in options and options["RECURSIVE"].sql().upper() == "TRUE":
        raise NotImplementedError("FLATTEN with RECURSIVE => TRUE")
    if (path := options.get("PATH")) is not None:
        value = exp.Anonymous(this="JSON_EXTRACT", expressions=[value, exp.Literal.string(f"$.{path.name}")])
    if (outer := options.get("OUTER")) is not None and outer.sql().upper() == "TRUE":
        value = exp.Anonymous(this="_SF_OUTER", expressions=[value])
    return exp.Explode(this=exp.Kwarg(this=exp.var("INPUT"), expression=value))


def _information_schema(node: Expr) -> Expr:
    if (
        isinstance(node, exp.Table)
        and node.db.upper() == "INFORMATION_SCHEMA"
        and node.name.upper() == "TABLE_CONSTRAINTS"
    ):
        node.set("db", exp.to_identifier("_fs_information_schema"))
    return node


_REWRITES: dict[str, Callable[[Expr], Expr]] = {
    **dict.fromkeys(SESSION_VARIABLES, _session_variable),
    "currentaccount": _constant("LOCAL"),
    "currentregion": _constant("LOCAL"),
    "cast": _cast,
    "trycast": _cast,
    "tsordstodate": _text_to_date,
    "anonymous": _anonymous,
    "hashagg": _hash_agg,
    "timestamptrunc": _truncate_date,
    "datetrunc": _truncate_date,
    "tochar": _to_char,
    "timetostr": _time_to_text,
    "regexpreplace": _regexp_replace,
    "window": _ratio_to_report,
    "widthbucket": _width_bucket,
    "bytelength": _byte_length,
    "parameter": _positional_column,
    "trim": _trim,
    "eq": _compare_with_text,
    "neq": _compare_with_text,
    "in": _compare_with_text,
    "md5numberlower64": _md5_number("MD5_NUMBER_LOWER"),
    "md5numberupper64": _md5_number("MD5_NUMBER_UPPER"),
    "explode": _flatten,
    "table": _information_schema,
}

__all__ = ["ProgrammingError", "finish", "rewrite"]
