"""What Snowflake's SQL means and fakesnow's translation to DuckDB lacks, as transforms of sqlglot trees.

Every addition has a line in the table of known differences (README.md beside this file) when it is not exact, and a
test in tests/warehouse/local.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import duckdb
import sqlglot
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

SUCCESS_MESSAGE = "Statement executed successfully."

_QUOTED_OR_VARIABLE = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"[^\"]*\"|--[^\n]*|//[^\n]*|/\*.*?\*/|\$\$.*?\$\$|(?<![\w$])\$([A-Za-z_]\w*)",
    re.DOTALL,
)


def inline_variables(sql: str, variables: dict[str, str]) -> str:
    """Replace $name by the session variable's value, leaving quoted text and comments alone.

    Raises:
        ProgrammingError: a variable that was never set.
    """
    if "$" not in sql:
        return sql
    by_name = {name.upper(): value for name, value in variables.items()}

    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return found[0]
        if name.upper() not in by_name:
            raise ProgrammingError(
                msg=f"SQL compilation error:\nSession variable '${name.upper()}' does not exist",
                errno=2211,
                sqlstate="42601",
            )
        return by_name[name.upper()]

    return _QUOTED_OR_VARIABLE.sub(value_of, sql)


_QUOTED_OR_CAST_BIND = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|\$\$.*?\$\$|(?P<bind>\?)(?=::)", re.DOTALL
)


def parse_statement(sql: str) -> Expr:
    """The one statement in the text.

    Raises:
        ProgrammingError: no statement, more than one, or text Snowflake's grammar (as sqlglot knows it) refuses.
    """
    try:
        # `?::date` is one token to sqlglot, and no expression.
        spaced = _QUOTED_OR_CAST_BIND.sub(lambda found: "? " if found["bind"] else found[0], sql)
        parsed = sqlglot.parse(spaced, read="snowflake")
        statements = [part for part in parsed if part and not isinstance(part, exp.Semicolon)]
    except sqlglot.errors.SqlglotError as error:
        message = re.sub(r"\x1b\[\d+m", "", str(error))
        raise ProgrammingError(msg=f"SQL compilation error:\n{message}", errno=1003, sqlstate="42000") from None
    if not statements:
        raise ProgrammingError(msg="SQL compilation error:\nEmpty SQL statement.", errno=900, sqlstate="42601")
    if len(statements) > 1:
        raise ProgrammingError(
            msg=f"Actual statement count {len(statements)} did not match the desired statement count 1.",
            errno=8,
            sqlstate="0A000",
        )
    return statements[0]


def upper_case_identifiers(expression: Expr) -> Expr:
    """Unquoted identifiers in capitals, as Snowflake stores them."""
    for identifier in list(expression.find_all(exp.Identifier)):
        if not identifier.quoted and isinstance(identifier.this, str):
            identifier.set("this", identifier.this.upper())
    return expression


def take_qualified_temporary(expression: Expr) -> tuple[str, exp.Table] | None:
    """Make a TEMPORARY relation with a qualified name an ordinary one; DuckDB's temporary ones have no schema.

    Returns:
        Kind and name of the relation, which the session drops when it ends; None for every other statement.
    """
    if (
        isinstance(expression, exp.Create)
        and expression.kind in ("TABLE", "VIEW")
        and (properties := expression.args.get("properties"))
        and properties.find(exp.TemporaryProperty)
        and (table := expression.find(exp.Table))
        and table.db
    ):
        properties.set(
            "expressions", [part for part in properties.expressions if not isinstance(part, exp.TemporaryProperty)]
        )
        return expression.kind, table.copy()
    return None


_PROPERTIES_WITHOUT_MEANING = (
    exp.TransientProperty,
    exp.CopyGrantsProperty,
    exp.Cluster,
    exp.ClusteredByProperty,
    exp.ClusterProperty,
    exp.SecureProperty,
    exp.WithSchemaBindingProperty,
)


def strip_storage_properties(expression: Expr) -> Expr:
    """Forget what only concerns Snowflake's storage: TRANSIENT, CLUSTER BY, COPY GRANTS, SECURE, retention."""
    if not isinstance(expression, exp.Create) or expression.kind not in ("TABLE", "VIEW", "SCHEMA", "DATABASE"):
        return expression
    properties = expression.args.get("properties")
    if properties:
        kept = [
            part
            for part in properties.expressions
            if not isinstance(part, _PROPERTIES_WITHOUT_MEANING)
            and not (type(part) is exp.Property and part.name.upper() != "COMMENT")
        ]
        if kept:
            properties.set("expressions", kept)
        else:
            expression.set("properties", None)
    return expression


def keep_sums_exact(expression: Expr) -> Expr:
    """Keep SUM of a NUMBER a NUMBER; fakesnow casts every SUM to a float to be able to add up text."""
    for aggregate in list(expression.find_all(exp.Sum, exp.Avg, exp.Median)):
        name = aggregate.sql_name()
        aggregate.replace(exp.Anonymous(this=name, expressions=[aggregate.this]))
    return expression


def name_result_columns(expression: Expr) -> Expr:
    """Name a result's unnamed expressions by their own text in capitals, as Snowflake does (`COUNT(*)`)."""
    if isinstance(expression, exp.Select):
        projections = []
        for projection in expression.expressions:
            unnamed = not isinstance(projection, (exp.Alias, exp.Column, exp.Star, exp.Aliases))
            if unnamed and not projection.is_star and not isinstance(projection, (exp.Placeholder, exp.Parameter)):
                name = projection.sql(dialect="snowflake").upper()
                projections.append(exp.alias_(projection.copy(), name[:250], quoted=True))
            else:
                projections.append(projection)
        expression.set("expressions", projections)
    return expression


@cache
def _duckdb_keywords() -> frozenset[str]:
    """Words DuckDB does not take as a name without quotes."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT upper(keyword_name) FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        ).fetchall()
    return frozenset(word for (word,) in rows) - {"DEFAULT"}


def quote_keywords(expression: Expr) -> Expr:
    """Quote names that are keywords to DuckDB and plain words to Snowflake (a column AT)."""
    for identifier in expression.find_all(exp.Identifier):
        if not identifier.quoted and str(identifier.this).upper() in _duckdb_keywords():
            identifier.set("quoted", True)
    return expression


TEXT_READER_PREFIX = "_SF_READ_"

_TEXT_READERS = {"DATE": "to_date", "TIMESTAMP": "to_timestamp", "TIME": "to_time"}
"""Macros that read text into a column's type as Snowflake does: digits count from 1970, or from midnight."""

TypesOf = Callable[[exp.Table], list[tuple[str, str]]]


def insert_from_relation(sql: str, relation: str, columns: dict[str, bool], types_of: TypesOf) -> str:
    """The INSERT of one row of placeholders as an INSERT of all rows of a relation.

    Args:
        sql: `INSERT INTO t (…) VALUES (?, …)` or `INSERT INTO t (…) SELECT ?, …`.
        relation: a relation with one column a placeholder.
        columns: those columns, in the order of the placeholders, and whether each is text.
        types_of: names and DuckDB types of the columns of a table.

    Raises:
        ProgrammingError: another kind of statement.
    """
    expression = parse_statement(sql)
    source = expression.args.get("expression") if isinstance(expression, exp.Insert) else None
    if isinstance(source, exp.Values) and len(source.expressions) == 1:
        row = source.expressions[0]
        select = exp.select(*[value.copy() for value in (row.expressions if isinstance(row, exp.Tuple) else [row])])
    elif isinstance(source, exp.Select) and not source.args.get("from_"):
        select = source.copy()
    else:
        raise ProgrammingError(
            msg="Array bind is supported for INSERT with one row of VALUES, or a SELECT without FROM, only.\n"
            f"Statement: {sql[:400]}",
            errno=2107,
            sqlstate="0A000",
        )
    assert isinstance(expression, exp.Insert)
    upper_case_identifiers(expression)
    target = expression.this
    table = target.this if isinstance(target, exp.Schema) else target
    types = dict(types_of(table))
    named = [part.name for part in target.expressions] if isinstance(target, exp.Schema) else list(types)
    kinds = {id(value): types.get(name, "") for value, name in zip(select.expressions, named, strict=False)}
    placeholders = list(select.find_all(exp.Placeholder, bfs=False))
    if len(placeholders) != len(columns):
        raise ProgrammingError(
            msg=f"Bind variables do not match: {len(placeholders)} placeholders, {len(columns)} values a row. "
            f"Statement: {sql[:400]}",
            errno=2049,
            sqlstate="42601",
        )
    for placeholder, (column, is_text) in zip(placeholders, columns.items(), strict=True):
        value: Expr = exp.column(column, quoted=True)
        reader = _TEXT_READERS.get(kinds.get(id(placeholder), "")) if is_text else None
        if reader:
            value = exp.Anonymous(this=f"{TEXT_READER_PREFIX}{reader}", expressions=[value])
        placeholder.replace(value)
    expression.set("expression", select.from_(exp.table_(relation, db="main", catalog="temp", quoted=True)))
    return expression.sql(dialect="snowflake")


BEFORE_FAKESNOW: list[Callable[[Expr], Expr]] = [
    strip_storage_properties,
    name_result_columns,
]
"""Transforms of a whole statement, in order, before fakesnow's own."""
