"""CREATE, ALTER, COMMENT and DROP of tables, views and schemas: what DuckDB runs, and what is remembered beside it.

Keys are remembered and not enforced, as in Snowflake; only NOT NULL is. Clustering, transience, tags, policies and
retention change nothing locally.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

from warehouse.local import dialect

Name = tuple[str, str, str]
"""Database, schema and name."""

Remember = tuple[str, list[Any]]
"""A statement for the metadata database and its values."""

_FORGET = {
    "constraints": (
        "DELETE FROM _fs_global.sf.constraints WHERE database_name = ? AND schema_name = ? AND table_name = ?"
    ),
    "table_properties": (
        "DELETE FROM _fs_global.sf.table_properties WHERE database_name = ? AND schema_name = ? AND table_name = ?"
    ),
    "lengths": (
        "DELETE FROM _fs_global._fs_information_schema._fs_columns_ext "
        "WHERE ext_table_catalog = ? AND ext_table_schema = ? AND ext_table_name = ?"
    ),
}
_RENAME = (
    "UPDATE _fs_global.sf.constraints SET table_name = ? "
    "WHERE database_name = ? AND schema_name = ? AND table_name = ?",
    "UPDATE _fs_global.sf.table_properties SET table_name = ? "
    "WHERE database_name = ? AND schema_name = ? AND table_name = ?",
)
_ADD_CONSTRAINT = (
    "INSERT INTO _fs_global.sf.constraints (database_name, schema_name, table_name, constraint_name, constraint_type, "
    "column_name, key_sequence, referenced_database, referenced_schema, referenced_table, referenced_column) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ADD_PROPERTIES = (
    "INSERT INTO _fs_global.sf.table_properties (database_name, schema_name, table_name, cluster_by, is_transient) "
    "VALUES (?, ?, ?, ?, ?)"
)
_SET_CLUSTER_BY = (
    "UPDATE _fs_global.sf.table_properties SET cluster_by = ? "
    "WHERE database_name = ? AND schema_name = ? AND table_name = ?"
)
_DROP_CONSTRAINT = (
    "DELETE FROM _fs_global.sf.constraints "
    "WHERE database_name = ? AND schema_name = ? AND table_name = ? AND (constraint_name = ? OR constraint_type = ?)"
)
_ADD_LENGTH = (
    "INSERT OR REPLACE INTO _fs_global._fs_information_schema._fs_columns_ext "
    "VALUES (?, ?, ?, ?, ?, least(? * 4, 16777216))"
)

NO_OPERATION = dialect.SUCCESS_MESSAGE


@dataclass
class Definition:
    """What a DDL statement becomes.

    Attributes:
        statements: Snowflake SQL trees to translate and run in one transaction; empty when nothing is to be run.
        duckdb_after: DuckDB SQL run after them in the same transaction (comments).
        remember: statements for the metadata database, run once the rest is committed.
        message: what the client is told; None: fakesnow's own message.
    """

    statements: list[Expr]
    duckdb_after: list[str] = field(default_factory=list)
    remember: list[Remember] = field(default_factory=list)
    message: str | None = None


def define(
    expression: Expr,
    sql: str,
    qualify: Callable[[exp.Table], Name],
    columns_of: Callable[[Name], list[tuple[str, str]]],
) -> Definition | None:
    """The definition behind a DDL statement, or None when fakesnow's own way is right.

    Args:
        expression: the statement, identifiers in capitals.
        sql: its text, for what the parser does not keep.
        qualify: database, schema and name of a table as the session means it.
        columns_of: names and types of the columns of an existing table; empty when there is none.

    Raises:
        ProgrammingError: something Snowflake refuses as well, or that cannot be done here.
    """
    if isinstance(expression, exp.Create) and expression.kind in ("TABLE", "VIEW"):
        if re.match(r"\s*create\s+or\s+alter\s+table\b", sql, re.IGNORECASE):
            return _create_or_alter(expression, qualify, columns_of)
        return _create_relation(expression, qualify, columns_of)
    if isinstance(expression, exp.Alter) and expression.args.get("kind") in ("TABLE", "VIEW"):
        return _alter_relation(expression, qualify)
    if isinstance(expression, exp.Comment):
        return _comment(expression, qualify)
    if isinstance(expression, exp.Drop) and expression.kind in ("TABLE", "VIEW"):
        forgotten: list[Remember] = []
        for table in expression.find_all(exp.Table):
            forgotten += forget(qualify(table))
        expression.set("restrict", None)
        return Definition([expression], remember=forgotten)
    return None


def forget(name: Name) -> list[Remember]:
    """Statements that forget all that is remembered of a relation."""
    return [(sql, list(name)) for sql in _FORGET.values()]


def _create_relation(
    create: exp.Create, qualify: Callable[[exp.Table], Name], columns_of: Callable[[Name], list[tuple[str, str]]]
) -> Definition:
    table = create.this.this if isinstance(create.this, exp.Schema) else create.this
    name = qualify(table)
    target = duckdb_name(name)
    is_table = create.kind == "TABLE"
    comments: list[str] = []
    constraints: list[Remember] = []
    keep_existing = bool(create.args.get("exists")) and bool(columns_of(name))

    properties = create.args.get("properties")
    cluster_by, transient = "", False
    if properties:
        for part in list(properties.expressions):
            if isinstance(part, exp.SchemaCommentProperty):
                comments.append(f"COMMENT ON {create.kind} {target} IS {_literal(part.this.name)}")
                part.pop()
            elif isinstance(part, (exp.Cluster, exp.ClusterProperty)):
                cluster_by = f"LINEAR({', '.join(e.sql(dialect='snowflake') for e in part.expressions)})"
            elif isinstance(part, exp.TransientProperty):
                transient = True
    lengths: list[Remember] = []
    if isinstance(create.this, exp.Schema):
        kept: list[Expr] = []
        for part in create.this.expressions:
            if isinstance(part, exp.ColumnDef):
                column = part.name
                constraints += _column_constraints(part, name, qualify)
                if comment := _take_column_comment(part):
                    comments.append(f"COMMENT ON COLUMN {target}.{_identifier(column)} IS {_literal(comment)}")
                if length := _text_length(part):
                    lengths.append((_ADD_LENGTH, [*name, column, length, length]))
                kept.append(part if is_table else exp.to_identifier(column, quoted=True))
            elif isinstance(part, exp.Identifier):
                kept.append(part)
            else:
                constraints += _table_constraint(part, name, qualify)
        create.this.set("expressions", kept)

    query = create.args.get("expression")
    statements: list[Expr] = [create]
    if (
        is_table
        and query is not None
        and isinstance(create.this, exp.Schema)
        and all(isinstance(part, exp.ColumnDef) and part.kind for part in create.this.expressions)
    ):
        # The columns' types and NOT NULL hold for what the query gives: make the table, then fill it.
        create.set("expression", None)
        insert = exp.Insert(this=table.copy(), expression=query.copy())
        insert.args["rows_of_create"] = True
        statements.append(insert)
    if keep_existing:
        return Definition(statements, message=f"{name[2]} already exists, statement succeeded.")
    remember = [*forget(name), *constraints, *lengths]
    remember.append((_ADD_PROPERTIES, [*name, cluster_by, transient]))
    message = f"{'Table' if is_table else 'View'} {name[2]} successfully created."
    return Definition(statements, duckdb_after=comments, remember=remember, message=message)


def _create_or_alter(
    create: exp.Create, qualify: Callable[[exp.Table], Name], columns_of: Callable[[Name], list[tuple[str, str]]]
) -> Definition:
    table = create.this.this if isinstance(create.this, exp.Schema) else create.this
    name = qualify(table)
    existing = dict(columns_of(name))
    create.set("replace", False)
    if not existing:
        return _create_relation(create, qualify, columns_of)
    wanted = {part.name: part for part in create.this.expressions if isinstance(part, exp.ColumnDef)}
    definition = Definition([], message=f"Table {name[2]} successfully altered.")
    for column in existing:
        if column not in wanted:
            definition.duckdb_after.append(f"ALTER TABLE {duckdb_name(name)} DROP COLUMN {_identifier(column)}")
    for column, part in wanted.items():
        definition.remember += _column_constraints(part, name, qualify)
        if comment := _take_column_comment(part):
            definition.duckdb_after.append(
                f"COMMENT ON COLUMN {duckdb_name(name)}.{_identifier(column)} IS {_literal(comment)}"
            )
        if column in existing:
            definition.statements.append(
                _alter(table, exp.AlterColumn(this=exp.to_identifier(column, quoted=True), dtype=part.kind))
            )
        else:
            definition.statements += _add_column(table, part)
    return definition


def _alter_relation(alter: exp.Alter, qualify: Callable[[exp.Table], Name]) -> Definition | None:
    table = alter.this
    name = qualify(table)
    target = duckdb_name(name)
    kind = alter.args["kind"]
    definition = Definition([], message=NO_OPERATION)
    exists_check = exp.select(exp.Literal.number(1)).from_(table.copy()).where(exp.false())
    for action in alter.args.get("actions") or []:
        if isinstance(action, exp.AlterColumn) and (comment := action.args.get("comment")) is not None:
            definition.duckdb_after.append(
                f"COMMENT ON COLUMN {target}.{_identifier(action.name)} IS {_literal(comment.name)}"
            )
        elif isinstance(action, exp.AddConstraint):
            for constraint in action.expressions:
                definition.remember += _table_constraint(constraint, name, qualify)
            definition.statements.append(exists_check)
        elif isinstance(action, exp.Drop) and action.args.get("kind") == "CONSTRAINT":
            dropped = action.find(exp.Identifier)
            definition.remember.append((_DROP_CONSTRAINT, [*name, dropped.name if dropped else "", ""]))
        elif isinstance(action, (exp.Cluster, exp.ClusterProperty)):
            key = f"LINEAR({', '.join(e.sql(dialect='snowflake') for e in action.expressions)})"
            definition.statements.append(exists_check)
            definition.remember.append((_SET_CLUSTER_BY, [key, *name]))
        elif isinstance(action, exp.Command):
            definition.statements.append(exists_check)
            if "CLUSTERING KEY" in action.sql().upper():
                definition.remember.append((_SET_CLUSTER_BY, ["", *name]))
        elif isinstance(action, exp.AlterSet):
            if comment := action.find(exp.SchemaCommentProperty):
                definition.duckdb_after.append(f"COMMENT ON {kind} {target} IS {_literal(comment.this.name)}")
            definition.statements.append(exists_check)
        elif isinstance(action, exp.SwapTable):
            definition = _swap(name, qualify(action.this))
        elif isinstance(action, exp.AlterRename):
            other = qualify(action.this) if action.this.db else (*name[:2], action.this.name)
            if other[:2] != name[:2]:
                raise ProgrammingError(
                    msg=f"ALTER {kind} {'.'.join(name)} RENAME TO {'.'.join(other)}: the local warehouse renames "
                    "within a schema only. Create it there and drop it here.",
                    errno=2,
                    sqlstate="0A000",
                )
            definition.duckdb_after.append(f"ALTER {kind} {target} RENAME TO {_identifier(other[2])}")
            definition.remember += [*forget(other), *[(sql, [other[2], *name]) for sql in _RENAME]]
        elif isinstance(action, exp.ColumnDef):
            definition.remember += _column_constraints(action, name, qualify)
            if comment := _take_column_comment(action):
                definition.duckdb_after.append(
                    f"COMMENT ON COLUMN {target}.{_identifier(action.name)} IS {_literal(comment)}"
                )
            if length := _text_length(action):
                definition.remember.append((_ADD_LENGTH, [*name, action.name, length, length]))
            definition.statements += _add_column(table, action)
        else:
            definition.statements.append(_alter(table, action.copy()))
    return definition


def _swap(one: Name, other: Name) -> Definition:
    if one[:2] != other[:2]:
        raise ProgrammingError(
            msg=f"ALTER TABLE {'.'.join(one)} SWAP WITH {'.'.join(other)}: the local warehouse swaps within a "
            "schema only.",
            errno=2,
            sqlstate="0A000",
        )
    passing = (*one[:2], f"{one[2]}__SWAP")
    steps = [(one, passing), (other, one), (passing, other)]
    definition = Definition([], message=NO_OPERATION)
    for source, target in steps:
        definition.duckdb_after.append(f"ALTER TABLE {duckdb_name(source)} RENAME TO {_identifier(target[2])}")
        definition.remember += [(sql, [target[2], *source]) for sql in _RENAME]
    return definition


def _comment(comment: exp.Comment, qualify: Callable[[exp.Table], Name]) -> Definition:
    kind = str(comment.args["kind"]).upper()
    text = _literal(comment.args["expression"].name)
    if kind in ("TABLE", "VIEW"):
        return Definition(
            [], [f"COMMENT ON {kind} {duckdb_name(qualify(comment.this))} IS {text}"], message=NO_OPERATION
        )
    if kind == "COLUMN":
        column = comment.this
        table = exp.table_(
            column.args["table"].copy(),
            db=column.args["db"].copy() if column.args.get("db") else None,
            catalog=column.args["catalog"].copy() if column.args.get("catalog") else None,
        )
        target = f"{duckdb_name(qualify(table))}.{_identifier(column.name)}"
        return Definition([], [f"COMMENT ON COLUMN {target} IS {text}"], message=NO_OPERATION)
    return Definition([], message=NO_OPERATION)


def _add_column(table: exp.Table, column: exp.ColumnDef) -> list[Expr]:
    """ADD COLUMN; DuckDB takes NOT NULL only with a value for the rows that are there."""
    return [exp.Alter(this=table.copy(), kind="TABLE", actions=[column.copy()])]


def _alter(table: exp.Table, action: Expr) -> exp.Alter:
    return exp.Alter(this=table.copy(), kind="TABLE", actions=[action])


def _take_column_comment(column: exp.ColumnDef) -> str | None:
    text = None
    for constraint in list(column.args.get("constraints") or []):
        if isinstance(constraint.args.get("kind"), exp.CommentColumnConstraint):
            text = constraint.args["kind"].this.name
            constraint.pop()
    return text


def _text_length(column: exp.ColumnDef) -> int | None:
    kind = column.kind
    if kind is None or kind.this not in (exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.CHAR):
        return None
    size = kind.find(exp.DataTypeParam)
    return int(size.this.name) if size is not None and size.this.name.isdigit() else None


def _column_constraints(column: exp.ColumnDef, name: Name, qualify: Callable[[exp.Table], Name]) -> list[Remember]:
    """Take keys, policies and tags off a column; what DuckDB keeps is its type, default, identity and NOT NULL."""
    remembered: list[Remember] = []
    kept = []
    for constraint in column.args.get("constraints") or []:
        kind = constraint.args.get("kind")
        if isinstance(kind, exp.PrimaryKeyColumnConstraint):
            remembered += _keys("PRIMARY KEY", name, None, [column.name])
        elif isinstance(kind, exp.UniqueColumnConstraint):
            remembered += _keys("UNIQUE", name, None, [column.name])
        elif isinstance(kind, exp.Reference):
            remembered += _foreign_keys(name, None, [column.name], kind, qualify)
        elif isinstance(
            kind,
            (
                exp.NotNullColumnConstraint,
                exp.DefaultColumnConstraint,
                exp.CommentColumnConstraint,
                exp.GeneratedAsIdentityColumnConstraint,
                exp.AutoIncrementColumnConstraint,
            ),
        ):
            kept.append(constraint)
    column.set("constraints", kept)
    return remembered


def _table_constraint(
    constraint: Expr, name: Name, qualify: Callable[[exp.Table], Name], label: str | None = None
) -> list[Remember]:
    if isinstance(constraint, exp.Constraint):
        found: list[Remember] = []
        for part in constraint.expressions:
            found += _table_constraint(part, name, qualify, constraint.name)
        return found
    if isinstance(constraint, exp.PrimaryKey):
        return _keys("PRIMARY KEY", name, label, [part.name for part in constraint.expressions])
    if isinstance(constraint, exp.UniqueColumnConstraint):
        columns = constraint.this.expressions if isinstance(constraint.this, exp.Schema) else [constraint.this]
        return _keys("UNIQUE", name, label, [part.name for part in columns])
    if isinstance(constraint, exp.ForeignKey):
        columns_named = [part.name for part in constraint.expressions]
        return _foreign_keys(name, label, columns_named, constraint.args["reference"], qualify)
    return []


def _keys(kind: str, name: Name, label: str | None, columns: list[str]) -> list[Remember]:
    label = label or f"SYS_CONSTRAINT_{name[2]}_{kind.replace(' ', '_')}_{'_'.join(columns)}"
    return [
        (_ADD_CONSTRAINT, [*name, label, kind, column, position, None, None, None, None])
        for position, column in enumerate(columns, start=1)
    ]


def _foreign_keys(
    name: Name, label: str | None, columns: list[str], reference: Expr, qualify: Callable[[exp.Table], Name]
) -> list[Remember]:
    target = reference.this
    table = target.this if isinstance(target, exp.Schema) else target
    referenced = [part.name for part in target.expressions] if isinstance(target, exp.Schema) else []
    label = label or f"SYS_CONSTRAINT_{name[2]}_FOREIGN_KEY_{'_'.join(columns)}"
    other = qualify(table)
    return [
        (
            _ADD_CONSTRAINT,
            [*name, label, "FOREIGN KEY", column, position, *other, referenced[position - 1] if referenced else None],
        )
        for position, column in enumerate(columns, start=1)
    ]


def duckdb_name(name: Name) -> str:
    """The relation's name as DuckDB SQL."""
    return ".".join(_identifier(part) for part in name if part)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
