"""Finding people in bytes and text that nobody has read into columns: refused records, dead letters, reports, logs."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

ERASED = "[erased]"

SHORTEST_VALUE = 4
"""Shorter names and addresses would be found in everything, so they are not looked for."""

_TELLING_ID = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9]).{5,}")
"""An id with letters and digits is found wherever it stands; one of digits alone may as well be an amount."""


@dataclass(frozen=True)
class PersonalText:
    """What is known of people who are to be forgotten, to be found again."""

    pseudonyms: Mapping[str, str]
    """Customer id → what takes its place."""
    values: frozenset[str]
    """E-mail addresses, names and addresses."""

    @cached_property
    def long_values(self) -> list[str]:
        """Values that can be looked for, the longest first, so that none is cut by a part of it."""
        return sorted(
            (value for value in self.values if len(value) >= SHORTEST_VALUE), key=lambda one: (-len(one), one)
        )

    @cached_property
    def _anywhere(self) -> re.Pattern[bytes]:
        """Ids and values as bytes, in the encodings that files have; upper and lower case alike."""
        ids = [rb"(?<![\w.-])" + form + rb"(?:\.0+)?(?![\w-])" for form in _encoded(self.pseudonyms)]
        return re.compile(b"|".join([*ids, *_encoded(self.long_values), rb"(?!)"]), re.IGNORECASE)

    @cached_property
    def _in_text(self) -> re.Pattern[str]:
        """The same for text of ours; ids of digits alone only behind the word customer, for they may be anything."""
        forms: list[str] = []
        for one in sorted(self.pseudonyms, key=len, reverse=True):
            token = rf"(?P<id>(?<![\w.-]){re.escape(one)}(?![\w-]))"
            if not _TELLING_ID.fullmatch(one):
                token = rf"(?:customer\w*[\"'»]?\s*[:=]?\s*[\"'«]?){token}"
            forms.append(token.replace("?P<id>", f"?P<id{len(forms)}>"))
        values = [re.escape(form) for value in self.long_values for form in _text_forms(value)]
        return re.compile("|".join([*forms, *values, r"(?!)"]), re.IGNORECASE)

    def is_in_bytes(self, content: bytes | bytearray | None) -> bool:
        """Whether bytes hold an id (as a word), or an e-mail address, a name or an address."""
        return content is not None and self._anywhere.search(content) is not None

    def is_in_headers(self, text: str | None) -> bool:
        """The same for headers as OPS.DEAD_LETTERS has them: a JSON array of [name, value in base64]."""
        if not text or text == "[]":
            return False
        pairs = json.loads(text)
        return any(
            self.is_in_bytes(name.encode()) or (value is not None and self.is_in_bytes(base64.b64decode(value)))
            for name, value in pairs
        )

    def is_in_text(self, text: str | None) -> bool:
        """Whether text of ours (a reason, a report) names them."""
        return text is not None and self._in_text.search(text) is not None

    def scrub(self, text: str) -> str:
        """Text of ours with pseudonyms for ids, and nothing for what else names them."""

        def replacement(found: re.Match[str]) -> str:
            for name, value in found.groupdict().items():
                if name.startswith("id") and value is not None:
                    start = found.start(name) - found.start()
                    known = {one.lower(): pseudonym for one, pseudonym in self.pseudonyms.items()}
                    return found[0][:start] + known[value.lower()] + found[0][start + len(value) :]
            return ERASED

        return self._in_text.sub(replacement, text)

    def blotted(self, content: bytes) -> bytes:
        """Text of ours as bytes of the same length, with x where it names them: for files that others append to."""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return content
        return self._in_text.sub(lambda found: "x" * len(found[0].encode()), text).encode()


def _text_forms(value: str) -> list[str]:
    """A value as text has it: as it is, in HTML, in JSON."""
    return list(dict.fromkeys([value, html.escape(value), html.escape(value, quote=False), json.dumps(value)[1:-1]]))


def _encoded(values: Iterable[str]) -> list[bytes]:
    """Patterns of values in the encodings of files: UTF-8, Windows-1252, UTF-16, JSON's escapes, URLs."""
    from urllib.parse import quote, quote_plus

    forms: dict[bytes, None] = {}
    for value in sorted(values, key=len, reverse=True):
        for text in (*_text_forms(value), quote(value), quote_plus(value)):
            forms[re.escape(text.encode("utf-8"))] = None
        for encoding in ("cp1252", "utf-16-le", "utf-16-be"):
            try:
                forms[re.escape(value.encode(encoding))] = None
            except UnicodeEncodeError:
                continue
    return list(forms)
