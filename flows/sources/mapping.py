"""Source mappings: a legacy source described in one YAML file, so that adding a source needs no Python."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from warehouse.contract import CLICK_FIELDS, ENTITIES

MAPPING_SUFFIX = ".yml"


class MappingError(ValueError):
    """A mapping cannot be used; the message names the file, the field, what was found and what was expected."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, str_strip_whitespace=False)


class Conventions(_Strict):
    """What a source's own habits mean; applied by staging SQL, not while files are read."""

    cancellation_prefix: str | None = None
    """An order id that begins so is a cancellation."""
    adjustment_prefix: str | None = None
    """An order id that begins so is an accounting adjustment, not a sale."""
    non_product_pattern: str | None = None
    """Regular expression (whole match, letter case ignored) of product codes that are no merchandise."""
    float_formatted_ids: bool = False
    """Whether ids are written as floats (`17850.0` means `17850`)."""
    whole_orders: bool = False
    """Whether a file that has an order has all of its lines: of several files with one order the latest counts."""
    exchange_rates_from: str | None = None
    """Source whose exchange rates convert this one's amounts; its own where it is not said."""

    @field_validator("non_product_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"expected a regular expression; it does not compile: {error}") from None
        return value


class EntityMapping(_Strict):
    """How the files of one entity are found and read, and which of their columns is which contract column."""

    files: str | list[str]
    """Glob, or several, relative to the landing root: `*` and `?` stay within a folder, `**/` crosses folders."""
    format: Literal["csv", "json_lines", "parquet"]
    """How a file is read. Compression goes by extension: `.gz`, `.zst`, or none."""
    columns: dict[str, str | Annotated[int, Field(ge=1)]]
    """Contract column → source column: a header name (compared trimmed, letter case ignored), a JSON key, or a 1-based
    position (CSV only)."""
    constants: dict[str, str] = {}
    """Contract column → text that every row gets."""
    defaults: dict[str, str] = {}
    """Contract column → text that a row gets where its own value is empty or its file lacks the column."""
    required: list[str] = []
    """Contract columns without whose source column a file is refused."""
    null_values: list[str] = []
    """Texts, besides the empty one, that mean no value (whole value, exact)."""
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str | None = '"'
    """Quote character; `null` where the source does not quote."""
    quoted_newlines: bool = True
    """Whether a quoted value may hold line ends."""
    header: bool = True
    """Whether the first line names the columns. Without one, columns are positions and `fields` is needed."""
    fields: Annotated[int, Field(ge=1)] | None = None
    """Number of fields of every record; only where `header` is false."""
    decimal_mark: str = "."
    """Written between units and decimals; numeric columns are rewritten with a point."""
    thousands_mark: str | None = None
    """Written between thousands; removed from numeric columns."""
    time_formats: list[str] = []
    """strptime formats of times that are not ISO; a time that one of them reads is rewritten as ISO text, the first
    that fits wins, others stay as they are."""

    @field_validator("files")
    @classmethod
    def _relative_globs(cls, value: str | list[str]) -> str | list[str]:
        globs = [value] if isinstance(value, str) else value
        if not globs:
            raise ValueError("expected at least one glob")
        for glob in globs:
            if not glob or glob.startswith("/") or ".." in glob.split("/"):
                raise ValueError(f"{glob!r} is not relative to the landing root; write e.g. orders/*.csv.gz")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
            "a".encode(value)
        except (LookupError, TypeError):
            raise ValueError("expected a text encoding Python knows, e.g. utf-8, cp1252, iso-8859-15, utf-16") from None
        return value

    @field_validator("delimiter", "quote", "decimal_mark", "thousands_mark")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            # A thousands mark may be a no-break space; it never takes part in splitting a line.
            if value in ("\u00a0", "\u202f"):
                return value
            raise ValueError("expected one ASCII character that is no line end")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> EntityMapping:
        if not self.delimiter.isascii() or (self.quote is not None and not self.quote.isascii()):
            raise ValueError("delimiter and quote: expected ASCII characters")
        if self.delimiter == self.quote:
            raise ValueError(f"delimiter and quote are both {self.delimiter!r}; expected two different characters")
        if self.decimal_mark == self.thousands_mark:
            raise ValueError(f"decimal_mark and thousands_mark are both {self.decimal_mark!r}; expected two different")
        both = sorted(set(self.columns) & set(self.constants))
        if both:
            raise ValueError(f"constants: {', '.join(both)} also stand under columns; expected one of the two")
        unmapped = [name for name in self.required if name not in self.columns]
        if unmapped:
            raise ValueError(f"required: {', '.join(unmapped)} stand not under columns; map them, or drop them here")
        loose = [name for name in self.defaults if name not in self.columns]
        if loose:
            raise ValueError(f"defaults: {', '.join(loose)} stand not under columns; use constants for them")
        positions = [name for name, source in self.columns.items() if isinstance(source, int)]
        if self.format != "csv":
            if positions:
                raise ValueError(f"columns: {', '.join(positions)} are positions; {self.format} has names only")
            if not self.header or self.fields is not None:
                raise ValueError(f"header and fields are for csv; format is {self.format}")
        elif self.header:
            if self.fields is not None:
                raise ValueError("fields is for files without a header; the header says how many there are")
        else:
            named = [name for name in self.columns if name not in positions]
            if named:
                raise ValueError(f"columns: {', '.join(named)} are names, but header is false; expected positions")
            if self.fields is None:
                raise ValueError("fields is missing: without a header, say how many fields a record has")
            beyond = [name for name in positions if int(self.columns[name]) > self.fields]
            if beyond:
                raise ValueError(f"columns: {', '.join(beyond)} lie beyond field {self.fields}, the last one")
        return self

    @property
    def globs(self) -> list[str]:
        """The globs of `files`, always as a list."""
        return [self.files] if isinstance(self.files, str) else self.files

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides how a file is read, so that a corrected mapping can be told apart."""
        canonical = json.dumps(self.model_dump(mode="json", exclude={"files"}), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


class ClickMapping(_Strict):
    """The website events of a source: on which stream they come, and where a payload has what."""

    stream: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    """Topic or stream."""
    fields: dict[str, Annotated[str, Field(pattern=r"^[^.\[\]\"'\\]+(\.[^.\[\]\"'\\]+)*$")]]
    """Field of the click contract → where the payload has it: a key, or keys joined by points (`context.page`)."""
    times: Literal["iso", "seconds", "milliseconds"] = "iso"
    """How times are written: ISO 8601 with an offset or `Z`, or a number since 1970."""

    @model_validator(mode="after")
    def _in_contract(self) -> ClickMapping:
        unknown = [name for name in self.fields if name not in CLICK_FIELDS]
        if unknown:
            raise ValueError(f"fields: found {', '.join(map(repr, unknown))}, expected of {', '.join(CLICK_FIELDS)}")
        missing = [name for name, contract in CLICK_FIELDS.items() if contract.required and name not in self.fields]
        if missing:
            raise ValueError(f"fields: {', '.join(missing)} missing; every event needs them")
        return self

    def snowflake_path(self, name: str) -> str:
        """Where the payload has a field, as GET_PATH takes it; every key quoted."""
        first, *rest = self.fields[name].split(".")
        return f'["{first}"]' + "".join(f'["{key}"]' for key in rest)

    def json_path(self, name: str) -> str:
        """The same as a JSON path."""
        return "$" + "".join(f'."{key}"' for key in self.fields[name].split("."))


class CalendarEvent(_Strict):
    """Announced days on which a source is not like on others."""

    name: Annotated[str, Field(min_length=1)]
    """What the shop calls it."""
    kind: Literal["promotion", "closed", "holiday"] = "promotion"
    """`closed`: no orders are expected; `holiday`: as the shop's public holidays; `promotion`: more than usual."""
    starts: date
    """First business date."""
    ends: date
    """Last business date, included."""

    @model_validator(mode="after")
    def _in_order(self) -> CalendarEvent:
        if not self.starts <= self.ends <= self.starts + timedelta(days=366):
            raise ValueError(f"{self.name} runs from {self.starts} to {self.ends}; expected 1 to 367 days, in order")
        return self


Action = Literal["note", "alert", "hold"]


class Gate(_Strict):
    """What becomes of order lines that detectors find.

    `note`: it is entered; `alert`: people are told; `hold`: they are told, and the business marts leave the lines out
    until somebody releases them. Small findings are always notes.
    """

    rules: Action = "hold"
    """Findings that break a rule, e.g. a price below zero."""
    critical: Action = "alert"
    """Critical findings that break none, and files that are faulty as a whole: those are held as a whole."""
    warning: Action = "alert"
    """Other findings."""


class SourceMapping(_Strict):
    """One source: where its files land and how they are read, on which stream its clicks come, what its conventions
    mean."""

    source: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Name; the file's name without `.yml`."""
    description: str
    timezone: str
    """Timezone of times that carry none, e.g. Europe/London."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    """ISO 4217 code of amounts whose row names no currency."""
    entities: dict[str, EntityMapping] = {}
    clicks: ClickMapping | None = None
    conventions: Conventions = Conventions()
    calendar: list[CalendarEvent] = []
    """Announced promotions and closing days: what they do to a day's orders is no finding."""
    gate: Gate = Gate()
    """What becomes of what is found."""

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("expected an IANA timezone, e.g. Europe/London") from None
        return value

    @model_validator(mode="after")
    def _in_contract(self) -> SourceMapping:
        if not self.entities and self.clicks is None:
            raise ValueError(f"entities: expected at least one of {', '.join(ENTITIES)}, or clicks")
        for name, mapping in self.entities.items():
            if name not in ENTITIES:
                raise ValueError(f"entities: found {name!r}, expected one of {', '.join(ENTITIES)}")
            allowed = ENTITIES[name].columns
            unknown = [column for column in (*mapping.columns, *mapping.constants) if column not in allowed]
            if unknown:
                raise ValueError(
                    f"entities.{name}: found contract column {', '.join(map(repr, unknown))}, "
                    f"expected of {', '.join(allowed)}"
                )
        return self


def load_mapping(name: str, sources_dir: Path) -> SourceMapping:
    """The mapping of one source, read from `<sources_dir>/<name>.yml`.

    Raises:
        MappingError: there is no such file, it is no YAML, or a field is unknown, missing or wrong. The message has a
            line for each problem.
    """
    path = Path(sources_dir) / f"{name}{MAPPING_SUFFIX}"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(list_mappings(sources_dir)) or "none"
        raise MappingError(
            f"source {name!r} has no mapping: {path} does not exist (found: {known}); "
            "write one as warehouse/sources/README.md tells"
        ) from None
    except UnicodeDecodeError as error:
        raise MappingError(f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#04x}") from None
    mapping = parse_mapping(text, where=str(path))
    if mapping.source != name:
        raise MappingError(f"{path}: source: found {mapping.source!r}, expected {name!r}, as the file is named")
    return mapping


def parse_mapping(text: str, *, where: str) -> SourceMapping:
    """A mapping from YAML text; `where` names its origin in errors.

    Raises:
        MappingError: as `load_mapping`.
    """
    try:
        # _UniqueKeys derives from SafeLoader: nothing but plain data is built.
        content: Any = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise MappingError(f"{where}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise MappingError(f"{where}: found {type(content).__name__}, expected keys and values (source: …)")
    try:
        return SourceMapping.model_validate(content)
    except ValidationError as error:
        raise MappingError("\n".join(_explain(where, problem) for problem in error.errors())) from None


def list_mappings(sources_dir: Path) -> list[str]:
    """Names of the sources that have a mapping in this folder, sorted; empty where there is no folder."""
    folder = Path(sources_dir)
    return sorted(path.stem for path in folder.glob(f"*{MAPPING_SUFFIX}")) if folder.is_dir() else []


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice, which YAML readers otherwise resolve silently to the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if isinstance(key, str | int | bool) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _explain(where: str, problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    # Pydantic names the member of a union it tried ("str", "list[str]"); readers of a mapping know only its keys.
    field = ".".join(
        str(part) for part in problem["loc"] if not re.fullmatch(r"str|list\[.*\]|(constrained-)?int", str(part))
    )
    message = problem["msg"].removeprefix("Value error, ")
    kind = problem["type"]
    if kind == "extra_forbidden":
        message = "unknown key; see warehouse/sources/README.md for those that exist"
    elif kind == "missing":
        return f"{where}: {field}: missing; expected a value"
    found = problem["input"]
    shown = f"found {found!r}: " if isinstance(found, str | int | float | bool | list | None) else ""
    quoting = "; write it in quotes" if kind == "string_type" and not isinstance(found, dict | list) else ""
    return f"{where}: {field or 'mapping'}: {shown}{message}{quoting}"
