"""Statements about the account rather than its data: roles, warehouses, grants, policies, tags, session parameters.

Locally they have no effect on what a session may do. They are accepted and remembered, so that the same DDL runs on
both targets and SHOW gives it back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlglot
from fakesnow.expr import normalise_ident
from sqlglot.tokens import Token, TokenType

if TYPE_CHECKING:
    from warehouse.local.session import LocalSession

ACCOUNT_KINDS = (
    "ROLE",
    "DATABASE ROLE",
    "USER",
    "WAREHOUSE",
    "MASKING POLICY",
    "ROW ACCESS POLICY",
    "SESSION POLICY",
    "PASSWORD POLICY",
    "NETWORK POLICY",
    "NETWORK RULE",
    "TAG",
    "RESOURCE MONITOR",
    "STORAGE INTEGRATION",
    "NOTIFICATION INTEGRATION",
    "API INTEGRATION",
    "SECURITY INTEGRATION",
    "EXTERNAL VOLUME",
)

SYSTEM_ROLES = ("ACCOUNTADMIN", "ORGADMIN", "PUBLIC", "SECURITYADMIN", "SYSADMIN", "USERADMIN")

_KINDS = "|".join(kind.replace(" ", r"\s+") for kind in sorted(ACCOUNT_KINDS, key=len, reverse=True))
_NAME = r"(?:\"[^\"]+\"|[\w$]+)(?:\.(?:\"[^\"]+\"|[\w$]+)){0,2}"
_CREATE = re.compile(
    rf"create\s+(?P<replace>or\s+(?:replace|alter)\s+)?(?P<kind>{_KINDS})\s+(?P<absent>if\s+not\s+exists\s+)?(?P<name>{_NAME})",
    re.IGNORECASE,
)
_ALTER = re.compile(rf"alter\s+(?P<kind>{_KINDS})\s+(?:if\s+exists\s+)?(?P<name>{_NAME})?", re.IGNORECASE)
_DROP = re.compile(rf"drop\s+(?P<kind>{_KINDS})\s+(?:if\s+exists\s+)?(?P<name>{_NAME})", re.IGNORECASE)
_GRANT = re.compile(r"(?P<verb>grant|revoke)\s+(?:grant\s+option\s+for\s+)?(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_GRANT_ON = re.compile(
    r"(?P<privileges>.+?)\s+on\s+(?P<object>.+?)\s+(?:to|from)\s+(?P<to>(?:database\s+role|application\s+role|role|user|share)\s+)?"
    rf"(?P<grantee>{_NAME})(?:\s+.*)?",
    re.IGNORECASE | re.DOTALL,
)
_GRANT_ROLE = re.compile(
    rf"(?:database\s+)?role\s+(?P<role>{_NAME})\s+(?:to|from)\s+(?P<to>database\s+role|role|user)\s+(?P<grantee>{_NAME})",
    re.IGNORECASE,
)
_ACCEPTED = re.compile(
    r"alter\s+(?:table|view)\s+(?:if\s+exists\s+)?\S+\s+"
    r"(?:(?:modify|alter)\s+(?:column\s+)?\S+\s+(?:set|unset)\s+(?:masking\s+policy|tag|projection\s+policy)"
    r"|(?:set|unset)\s+(?:tag|masking\s+policy|data_retention|change_tracking|comment)"
    r"|(?:add|drop)\s+(?:row\s+access\s+policy|all\s+row\s+access|search\s+optimization)"
    r"|(?:suspend|resume)\s+recluster)\b"
    r"|alter\s+(?:database|schema|account|stage|file\s+format)\s+\S+\s+(?:set|unset)\b|alter\s+account\s+(?:set|unset)\b",
    re.IGNORECASE,
)
_USE = re.compile(
    rf"use\s+(?:(?P<kind>role|warehouse|database|schema)\s+)?(?P<name>{_NAME})|use\s+secondary\s+roles?\s+\S+",
    re.IGNORECASE,
)
_ALTER_SESSION = re.compile(r"alter\s+session\s+(?P<verb>set|unset)\s+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SHOW = re.compile(
    r"show\s+(?P<what>roles|grants|warehouses|tags|masking\s+policies|row\s+access\s+policies|users|parameters|"
    r"storage\s+integrations|integrations|resource\s+monitors|dynamic\s+tables)\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_DROP_PRIMARY_KEY = re.compile(
    rf"alter\s+table\s+(?:if\s+exists\s+)?(?P<name>{_NAME})\s+drop\s+(?P<kind>primary\s+key|unique|foreign\s+key)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_COLUMN_COMMENTS = re.compile(
    rf"alter\s+(?:table|view)\s+(?:if\s+exists\s+)?(?P<name>{_NAME})\s+(?:alter|modify)\s+(?P<rest>.*\bcomment\b.*)",
    re.IGNORECASE | re.DOTALL,
)

_LEADING_COMMENTS = re.compile(r"^(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)+", re.DOTALL)
_TRAILING_COMMENT = re.compile(r"(?:/\*(?:(?!\*/|/\*).)*\*/|(?:^|\n)\s*--[^\n']*)\s*$", re.DOTALL)

PARAMETER_DEFAULTS = {
    "AUTOCOMMIT": "true",
    "QUERY_TAG": "",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": "false",
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
    "TIMEZONE": "Etc/UTC",
    "WEEK_START": "0",
}


class AccountStatements:
    """Answers the statements of this module for one session; `answer` gives None for every other statement."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session
        self.engine = session.engine

    def answer(self, sql: str) -> str | tuple[list[str], list[tuple[Any, ...]]] | None:
        """A message, or column names and rows, or None when the statement is not about the account."""
        text = strip_comments(sql)
        head = text[:400]
        if found := _USE.fullmatch(text):
            return self._use(found)
        if found := _ALTER_SESSION.fullmatch(text):
            return self._alter_session(found["verb"].upper(), found["rest"])
        if found := _CREATE.match(head):
            return self._create(found, text)
        if found := _DROP.match(head):
            self._remember(
                "DELETE FROM _fs_global.sf.account_objects WHERE kind = ? AND name = ?",
                [_kind(found["kind"]), _name(found["name"])],
            )
            return f"{_name(found['name'])} successfully dropped."
        if _ALTER.match(head) or _ACCEPTED.match(head):
            return "Statement executed successfully."
        if found := _GRANT.fullmatch(text):
            return self._grant(found["verb"].upper(), found["rest"])
        if found := _SHOW.fullmatch(text):
            return self._show(_kind(found["what"]), found["rest"])
        if found := _DROP_PRIMARY_KEY.fullmatch(text):
            kind = _kind(found["kind"])
            self._remember(
                "DELETE FROM _fs_global.sf.constraints WHERE database_name = ? AND schema_name = ? AND table_name = ? "
                "AND constraint_type = ?",
                [*self._qualified(found["name"]), kind],
            )
            return "Statement executed successfully."
        if found := _COLUMN_COMMENTS.fullmatch(text):
            return self._comment_columns(found["name"], found["rest"])
        return None

    def _use(self, found: re.Match[str]) -> str | None:
        kind, name = (found["kind"] or "").upper(), found["name"]
        if name is None:
            return "Statement executed successfully."
        if kind == "ROLE":
            self.session.set_role(_name(name))
        elif kind == "WAREHOUSE":
            self.session.set_warehouse(_name(name))
        else:
            parts = [normalise_ident(part) for part in split_name(name)]
            if kind == "DATABASE" or (not kind and len(parts) == 1):
                self.session.use(parts[0], None)
            else:
                self.session.use(parts[0] if len(parts) == 2 else self.session.database, parts[-1])
        return "Statement executed successfully."

    def _alter_session(self, verb: str, rest: str) -> str:
        for found in re.finditer(r"(\w+)\s*(?:=\s*('(?:[^']|'')*'|[\w.+-]+))?", rest):
            name, value = found[1].upper(), found[2]
            if verb == "UNSET" or value is None:
                self.session.parameters.pop(name, None)
                continue
            value = value[1:-1].replace("''", "'") if value.startswith("'") else value
            if name == "AUTOCOMMIT":
                self.session.autocommit(value.lower() == "true")
            self.session.parameters[name] = value
        return "Statement executed successfully."

    def _create(self, found: re.Match[str], text: str) -> str:
        kind, name = _kind(found["kind"]), _name(found["name"])
        known = self.engine.metadata_rows(
            "SELECT 1 FROM _fs_global.sf.account_objects WHERE kind = ? AND name = ?", [kind, name]
        )
        if known and found["absent"]:
            return f"{name} already exists, statement succeeded."
        self._remember("DELETE FROM _fs_global.sf.account_objects WHERE kind = ? AND name = ?", [kind, name])
        self._remember(
            "INSERT INTO _fs_global.sf.account_objects (kind, name, statement) VALUES (?, ?, ?)", [kind, name, text]
        )
        if kind == "WAREHOUSE":
            self.session.set_warehouse(name)
        return f"{kind.capitalize()} {name} successfully created."

    def _grant(self, verb: str, rest: str) -> str:
        if found := _GRANT_ROLE.match(rest):
            entries = [("USAGE", "ROLE", _name(found["role"]), _kind(found["to"]), _name(found["grantee"]))]
        elif found := _GRANT_ON.fullmatch(rest):
            kind, name = self._granted_object(found["object"])
            to = _kind(found["to"] or "ROLE")
            privileges = [" ".join(part.split()).upper() for part in found["privileges"].split(",")]
            entries = [(privilege, kind, name, to, _name(found["grantee"])) for privilege in privileges]
        else:
            return "Statement executed successfully."
        for privilege, kind, name, to, grantee in entries:
            everything = verb == "REVOKE" and privilege.startswith("ALL")
            self._remember(
                "DELETE FROM _fs_global.sf.grants WHERE (privilege = ? OR ?) AND granted_on = ? AND name = ? "
                "AND granted_to = ? AND grantee_name = ?",
                [privilege, everything, kind, name, to, grantee],
            )
            if verb == "GRANT":
                self._remember(
                    "INSERT INTO _fs_global.sf.grants (privilege, granted_on, name, granted_to, grantee_name) "
                    "VALUES (?, ?, ?, ?, ?)",
                    [privilege, kind, name, to, grantee],
                )
        return "Statement executed successfully."

    def _granted_object(self, text: str) -> tuple[str, str]:
        found = re.fullmatch(
            rf"(?P<kind>(?:(?:all|future)\s+[\w\s]+?\s+in\s+(?:database|schema)|[a-z][a-z\s]*?))\s+(?P<name>{_NAME})",
            text.strip(),
            re.IGNORECASE,
        )
        if found is None:
            return "TABLE", self._relation_name(text.strip())
        kind = _kind(found["kind"])
        name = self._relation_name(found["name"]) if kind in ("TABLE", "VIEW") else _name(found["name"])
        return kind, name

    def _relation_name(self, text: str) -> str:
        return ".".join(self._qualified(text))

    def _qualified(self, text: str) -> list[str]:
        parts = [normalise_ident(part) for part in split_name(text)]
        return [*[self.session.database or "", self.session.schema or ""][: 3 - len(parts)], *parts]

    def _show(self, what: str, rest: str) -> tuple[list[str], list[tuple[Any, ...]]] | None:
        like = re.search(r"like\s+'((?:[^']|'')*)'", rest, re.IGNORECASE)
        pattern = like[1] if like else "%"
        if what == "PARAMETERS":
            return self._show_parameters(pattern)
        if what == "GRANTS":
            return self._show_grants(rest)
        if what in ("USERS",):
            return None
        kinds = {
            "ROLES": "ROLE",
            "WAREHOUSES": "WAREHOUSE",
            "TAGS": "TAG",
            "MASKING POLICIES": "MASKING POLICY",
            "ROW ACCESS POLICIES": "ROW ACCESS POLICY",
            "STORAGE INTEGRATIONS": "STORAGE INTEGRATION",
            "RESOURCE MONITORS": "RESOURCE MONITOR",
        }
        rows = self.engine.metadata_rows(
            "SELECT created_on, name FROM _fs_global.sf.account_objects WHERE kind = ? AND name ILIKE ? ORDER BY name",
            [kinds.get(what, what), pattern],
        )
        if what == "ROLES":
            known = {row[1] for row in rows}
            epoch = self.engine.metadata_rows("SELECT to_timestamp(0)", [])[0][0]
            fits = self.engine.metadata_rows(
                "SELECT name FROM (SELECT unnest(?) AS name) WHERE name ILIKE ?", [list(SYSTEM_ROLES), pattern]
            )
            rows = sorted([*rows, *[(epoch, name) for (name,) in fits if name not in known]], key=lambda row: row[1])
            current = self.session.role
            return (
                ["created_on", "name", "is_default", "is_current", "is_inherited", "owner", "comment"],
                [(created, name, "N", "Y" if name == current else "N", "N", "", "") for created, name in rows],
            )
        if what == "WAREHOUSES":
            current = self.session.current_warehouse
            names = dict.fromkeys([*[row[1] for row in rows], current])
            return (
                ["name", "state", "type", "size", "is_default", "is_current", "auto_suspend", "auto_resume", "owner"],
                [
                    (
                        name,
                        "STARTED",
                        "STANDARD",
                        "X-Small",
                        "N",
                        "Y" if name == current else "N",
                        600,
                        "true",
                        "SYSADMIN",
                    )
                    for name in names
                ],
            )
        return (
            ["created_on", "name", "database_name", "schema_name", "kind", "owner", "comment"],
            [(created, *_object_name(name), what.removesuffix("S"), "ACCOUNTADMIN", "") for created, name in rows],
        )

    def _show_parameters(self, pattern: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        values = PARAMETER_DEFAULTS | self.session.parameters
        rows = [
            (
                name,
                value,
                PARAMETER_DEFAULTS.get(name, ""),
                "SESSION" if name in self.session.parameters else "",
                "",
                "STRING",
            )
            for name, value in sorted(values.items())
            if re.fullmatch(re.escape(pattern).replace("%", ".*").replace("_", "."), name, re.IGNORECASE)
        ]
        return ["key", "value", "default", "level", "description", "type"], rows

    def _show_grants(self, rest: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        condition, values = "TRUE", []
        if found := re.match(rf"\s+to\s+(role|user|database\s+role)\s+({_NAME})", rest, re.IGNORECASE):
            condition, values = "granted_to = ? AND grantee_name = ?", [_kind(found[1]), _name(found[2])]
        elif found := re.match(rf"\s+of\s+role\s+({_NAME})", rest, re.IGNORECASE):
            condition, values = "granted_on = 'ROLE' AND name = ?", [_name(found[1])]
        elif found := re.match(r"\s+on\s+(.+)", rest, re.IGNORECASE | re.DOTALL):
            kind, name = self._granted_object(found[1])
            condition, values = "granted_on IN (?, 'TABLE', 'VIEW') AND name = ?", [kind, name]
        columns = "created_on, privilege, granted_on, name, granted_to, grantee_name, 'false', 'ACCOUNTADMIN'"
        sql = f"SELECT {columns} FROM _fs_global.sf.grants WHERE {condition} ORDER BY ALL"  # noqa: S608
        rows = self.engine.metadata_rows(sql, values)
        return (
            [
                "created_on",
                "privilege",
                "granted_on",
                "name",
                "granted_to",
                "grantee_name",
                "grant_option",
                "granted_by",
            ],
            rows,
        )

    def _comment_columns(self, name: str, rest: str) -> str | None:
        """ALTER TABLE … ALTER a COMMENT 'x', b COMMENT 'y': the form dbt documents columns with."""
        tokens = sqlglot.tokenize(rest, read="snowflake")
        comments: list[tuple[str, str]] = []
        position = 0
        while position < len(tokens):
            if (
                tokens[position].text.upper() in ("COLUMN", "ALTER", "MODIFY")
                or tokens[position].token_type is TokenType.COMMA
            ):
                position += 1
                continue
            parts: list[Token] = tokens[position : position + 3]
            if len(parts) < 3 or parts[1].text.upper() != "COMMENT":
                return None
            quoted = parts[0].token_type is TokenType.IDENTIFIER
            comments.append((parts[0].text if quoted else parts[0].text.upper(), parts[2].text))
            position += 3
        target = ".".join('"' + part.replace('"', '""') + '"' for part in self._qualified(name))
        for column, comment in comments:
            quoted_column, text = column.replace('"', '""'), comment.replace("'", "''")
            self.session.run_duckdb(f"COMMENT ON COLUMN {target}.\"{quoted_column}\" IS '{text}'")
        return "Statement executed successfully."

    def _remember(self, sql: str, values: list[Any]) -> None:
        self.engine.remember([(sql, values)])


def strip_comments(sql: str) -> str:
    """The statement without comments and space before and after it (dbt appends a comment to each statement)."""
    text = _LEADING_COMMENTS.sub("", sql)
    while True:
        shorter = _TRAILING_COMMENT.sub("", text).rstrip().rstrip(";").rstrip()
        if shorter == text:
            return text
        text = shorter


def split_name(name: str) -> list[str]:
    """Parts of a dotted name, quotes kept."""
    return re.findall(r"\"[^\"]+\"|[^.\s\"]+", name)


def _kind(text: str) -> str:
    return " ".join(text.split()).upper()


def _name(text: str) -> str:
    return ".".join(normalise_ident(part) for part in split_name(text))


def _object_name(name: str) -> tuple[str, str, str]:
    parts = name.split(".")
    padded = [""] * (3 - len(parts)) + parts
    return padded[2], padded[0], padded[1]
