"""Finds the records of a CSV block and which of them are broken, without a loop over good rows.

The grammar is RFC 4180, as pyarrow reads it: a quote counts only where a field begins; inside a quoted field it is
doubled. Every line is classified by numpy for both states it may be entered in (outside or inside a quoted field). Only
lines that do not stand alone are then walked one by one: either they join into a record that spans lines, or the line
is broken and is refused alone, so that an unclosed quote never swallows the good lines after it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SPAN_BYTES = 1024 * 1024
"""How far a record that spans lines may reach, and so how far one looks for its closing quote."""

SWALLOW_CHECK_FIELDS = 6
"""From this many fields on, a quoted value in which whole records seem to lie is taken for two broken lines. With fewer
fields, text that looks like a record by chance is too common."""

MANY_HARD_LINES = 256
"""From so many lines on that must be walked one by one, what is known of lines is copied to lists first."""

LINE_FEED, CARRIAGE_RETURN = 10, 13


class Verdict(IntEnum):
    """Whether a record is good, and if not, why."""

    GOOD = 0
    WRONG_FIELD_COUNT = 1
    UNCLOSED_QUOTE = 2
    MALFORMED_QUOTE = 3
    BARE_LINE_END = 4
    NUL_BYTE = 5
    UNDECODABLE = 6
    UNREADABLE = 7


@dataclass(frozen=True)
class Dialect:
    """How a file separates its fields."""

    delimiter: bytes
    quote: bytes | None
    fields: int
    """Number of fields a record must have."""
    quoted_newlines: bool
    line_end: int = LINE_FEED
    """Byte that ends a line: LINE_FEED (carriage returns before it belong to it) or, in old files, CARRIAGE_RETURN."""


@dataclass
class Scan:
    """The records of a block, good and bad, in order; blank lines are none."""

    starts: NDArray[np.int64]
    """Where each record begins."""
    ends: NDArray[np.int64]
    """Where its content ends, its line end excluded."""
    nexts: NDArray[np.int64]
    """Where the line after it begins."""
    first_lines: NDArray[np.int64]
    """Ordinal (0-based, in the block) of its first line."""
    verdicts: NDArray[np.uint8]
    found_fields: NDArray[np.int64]
    """Number of fields, where it could be counted (see WRONG_FIELD_COUNT)."""
    consumed: int
    """Bytes of the block that are decided; the rest needs more data."""
    consumed_lines: int

    def mark(self, positions: NDArray[np.int64], verdict: Verdict) -> None:
        """Gives this verdict to the good records that hold one of these byte positions."""
        if len(positions) and len(self.starts):
            records = np.searchsorted(self.starts, positions, side="right") - 1
            records = records[(records >= 0) & (positions < self.nexts[records])]
            records = records[self.verdicts[records] == Verdict.GOOD]
            self.verdicts[records] = verdict


@dataclass
class _Lines:
    """What is known of every line by itself."""

    starts: NDArray[np.int64]
    content_ends: NDArray[np.int64]
    ends: NDArray[np.int64]
    delimiters_outside: NDArray[np.int64]
    """Outside of quotes, if the line is entered outside of quotes."""
    delimiters_inside: NDArray[np.int64]
    """Outside of quotes, if the line is entered inside of quotes."""
    odd_outside: NDArray[np.bool_]
    """Entered outside, it is left inside."""
    odd_inside: NDArray[np.bool_]
    """Entered inside, it is left outside."""
    irregular_outside: NDArray[np.bool_]
    irregular_inside: NDArray[np.bool_]
    with_quotes: NDArray[np.int64]
    """Ordinals of the lines that hold a quote."""
    bare: NDArray[np.bool_] | None
    """Which lines hold the other line-end byte in their middle; None if none does."""


def scan(data: bytes, dialect: Dialect, *, final: bool) -> Scan:
    """Finds the records of a block of whole lines.

    Args:
        data: bytes that end with a line end, beginning where a record begins.
        dialect: how fields are separated and how many there must be.
        final: whether nothing follows; otherwise a record that is still open at the end is left for the next block.
    """
    buffer = np.frombuffer(data, dtype=np.uint8)
    lines = _classify(data, buffer, dialect)
    count = len(lines.starts)
    blank = lines.content_ends == lines.starts
    found = lines.delimiters_outside + 1
    verdicts = np.where(found == dialect.fields, Verdict.GOOD, Verdict.WRONG_FIELD_COUNT).astype(np.uint8)
    last_lines = np.arange(count)
    continues = np.zeros(count, dtype=bool)
    decided = count

    hard = lines.odd_outside | lines.irregular_outside
    if lines.bare is not None:
        # Outside of quotes it would end the record for every reader of CSV, in the middle of a line for us.
        verdicts[lines.bare & ~hard] = Verdict.BARE_LINE_END
    if hard.any():
        hard_lines = np.flatnonzero(hard).tolist()
        alone = (verdicts == Verdict.GOOD) & ~hard & ~blank
        many = len(hard_lines) > MANY_HARD_LINES
        resolver = _Resolver(data, lines, dialect, alone=alone, many=many, final=final)
        done = -1
        for line in hard_lines:
            if line <= done:
                continue
            resolution = resolver.resolve(line)
            if resolution is None:
                decided = line
                break
            last, verdict, fields = resolution
            verdicts[line], found[line], last_lines[line] = verdict, fields, last
            continues[line + 1 : last + 1] = True
            done = last

    records = np.flatnonzero(~(blank | continues)[:decided])
    ending = last_lines[records]
    return Scan(
        starts=lines.starts[records],
        ends=lines.content_ends[ending],
        nexts=lines.ends[ending] + 1,
        first_lines=records,
        verdicts=verdicts[records],
        found_fields=found[records],
        consumed=int(lines.starts[decided]) if decided < count else len(data),
        consumed_lines=decided,
    )


def _classify(data: bytes, buffer: NDArray[np.uint8], dialect: Dialect) -> _Lines:
    delimiter = dialect.delimiter[0]
    quote = dialect.quote[0] if dialect.quote is not None and dialect.quote in data else None
    structural = (buffer == dialect.line_end) | (buffer == delimiter)
    if quote is not None:
        structural |= buffer == quote
    positions = np.flatnonzero(structural)
    kinds = buffer[positions]
    is_end = kinds == dialect.line_end
    end_index = np.flatnonzero(is_end)
    ends = positions[end_index]
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1

    content_ends, bare = _trim_line_ends(data, buffer, starts, ends, dialect.line_end)
    count = len(ends)
    nothing = np.zeros(count, dtype=bool)
    if quote is None:
        delimiters = np.diff(end_index, prepend=-1) - 1
        return _Lines(
            starts=starts,
            content_ends=content_ends,
            ends=ends,
            delimiters_outside=delimiters,
            delimiters_inside=delimiters,
            odd_outside=nothing,
            odd_inside=nothing,
            irregular_outside=nothing,
            irregular_inside=nothing,
            with_quotes=end_index[:0],
            bare=bare,
        )

    is_quote = kinds == quote
    line_of = np.cumsum(is_end) - is_end
    quotes_so_far = np.cumsum(is_quote)
    at_ends = quotes_so_far[end_index]
    at_starts = np.concatenate(([0], at_ends[:-1]))
    # Whether an odd number of quotes lies before this place in its line.
    odd_before = ((quotes_so_far - is_quote - at_starts[line_of]) & 1).astype(bool)
    is_delimiter = kinds == delimiter
    delimiters = _per_line(is_delimiter, end_index)
    delimiters_inside = _per_line(is_delimiter & odd_before, end_index)

    places = positions[is_quote]
    place_lines = line_of[is_quote]
    place_odd = odd_before[is_quote]
    previous = buffer[places - 1]  # the very first byte wraps round, and is a field's start anyway
    following = buffer[places + 1]  # there always is one: the line end
    at_field_start = (places == starts[place_lines]) | (previous == delimiter)
    may_open = at_field_start | (previous == quote)
    may_close = (following == delimiter) | (following == quote) | (places + 1 == content_ends[place_lines])
    wrong_outside = np.where(place_odd, ~may_close, ~may_open)
    wrong_inside = np.where(place_odd, ~may_open, ~may_close)

    odd = ((at_ends - at_starts) & 1).astype(bool)
    irregular_outside, irregular_inside, opens_field = nothing.copy(), nothing.copy(), nothing.copy()
    irregular_outside[place_lines[wrong_outside]] = True
    irregular_inside[place_lines[wrong_inside]] = True
    opens_field[place_lines[at_field_start]] = True
    # Quotes that open no field are plain text: 24" RULER.
    irregular_outside &= opens_field
    if bare is not None:
        # Allowed inside of quotes: the slow path looks.
        irregular_outside |= bare & opens_field
    return _Lines(
        starts=starts,
        content_ends=content_ends,
        ends=ends,
        delimiters_outside=np.where(opens_field, delimiters - delimiters_inside, delimiters),
        delimiters_inside=delimiters_inside,
        odd_outside=odd & opens_field,
        odd_inside=odd,
        irregular_outside=irregular_outside,
        irregular_inside=irregular_inside,
        with_quotes=np.flatnonzero(at_ends != at_starts),
        bare=bare,
    )


def _trim_line_ends(
    data: bytes, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], line_end: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Where lines end without their line ends, and which lines hold the other line-end byte in their middle."""
    other = CARRIAGE_RETURN if line_end == LINE_FEED else LINE_FEED
    if bytes((other,)) not in data:
        return ends, None
    content_ends = ends.copy()
    if line_end == LINE_FEED:
        # Text written twice through a Windows text mode ends in several carriage returns.
        while True:
            more = (content_ends > starts) & (buffer[content_ends - 1] == CARRIAGE_RETURN)
            if not more.any():
                break
            content_ends -= more
    others = np.flatnonzero(buffer == other)
    lines = np.searchsorted(ends, others)
    lines = lines[others < content_ends[lines]]
    bare = np.zeros(len(ends), dtype=bool)
    bare[lines] = True
    return content_ends, bare


def _per_line(flags: NDArray[np.bool_], end_index: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many flags are set in each line."""
    return np.diff(np.cumsum(flags)[end_index], prepend=0)


class _Resolver:
    """Decides on a line that does not stand alone, by bounded look-ahead."""

    def __init__(
        self, data: bytes, lines: _Lines, dialect: Dialect, *, alone: NDArray[np.bool_], many: bool, final: bool
    ) -> None:
        self.data = data
        self.dialect = dialect
        self.patterns = _patterns(dialect)
        self.final = final

        def quick(array: NDArray[Any]) -> Any:  # noqa: ANN401 - a list and an array are indexed alike
            # Single values are read from a list much faster than from an array, once it is made.
            return array.tolist() if many else array

        self.starts, self.ends, self.content_ends = quick(lines.starts), quick(lines.ends), quick(lines.content_ends)
        self.outside, self.inside = quick(lines.delimiters_outside), quick(lines.delimiters_inside)
        self.odd_inside, self.irregular_inside = quick(lines.odd_inside), quick(lines.irregular_inside)
        self.irregular_outside, self.with_quotes = quick(lines.irregular_outside), quick(lines.with_quotes)
        self.good_before = quick(np.concatenate(([0], np.cumsum(alone))))
        """How many lines before this one are good records by themselves."""
        self.bare_before = quick(np.concatenate(([0], np.cumsum(lines.bare)))) if lines.bare is not None else None

    def resolve(self, line: int) -> tuple[int, Verdict, int] | None:
        """Last line of the record that begins here, its verdict, and its fields; None if more data must tell."""
        if self.irregular_outside[line]:
            return self._match(line)
        return self._walk(line)

    def _walk(self, line: int) -> tuple[int, Verdict, int] | None:
        fields = self.dialect.fields
        broken = (line, Verdict.UNCLOSED_QUOTE, 0)
        if not self.dialect.quoted_newlines:
            return broken
        start = int(self.starts[line])
        found = int(self.outside[line]) + 1
        # Lines without quotes in between are part of the value.
        for place in range(bisect_right(self.with_quotes, line), len(self.with_quotes)):
            last = int(self.with_quotes[place])
            if self.irregular_inside[last] or self.ends[last] - start > MAX_SPAN_BYTES:
                return broken
            found += int(self.inside[last])
            if self.odd_inside[last]:
                if self.bare_before is not None and self.bare_before[last + 1] > self.bare_before[line]:
                    return self._match(line)
                if found == fields:
                    return broken if self._swallows(line, last) else (last, Verdict.GOOD, found)
                # One record with a field too many or too few, unless good records would go down with it.
                if self.good_before[last + 1] > self.good_before[line + 1]:
                    return broken
                return last, Verdict.WRONG_FIELD_COUNT, found
        return self._open_at_end(start, broken)

    def _match(self, line: int) -> tuple[int, Verdict, int] | None:
        start = int(self.starts[line])
        limit = min(len(self.data), start + MAX_SPAN_BYTES)
        patterns = self.patterns
        matched = patterns.record.match(self.data, start, limit)
        if matched is not None:
            last = bisect_left(self.ends, matched.end() - 1)
            if last > line and (not self.dialect.quoted_newlines or self._swallows(line, last)):
                return line, Verdict.UNCLOSED_QUOTE, 0
            return last, Verdict.GOOD, self.dialect.fields
        whole_line = patterns.any_record.fullmatch(self.data, start, int(self.ends[line]) + 1)
        if whole_line is not None:
            return line, Verdict.WRONG_FIELD_COUNT, len(patterns.field_end.findall(whole_line.group()))
        if patterns.unclosed.match(self.data, start, limit) is not None:
            broken = (line, Verdict.UNCLOSED_QUOTE, 0)
            return self._open_at_end(start, broken) if self.dialect.quoted_newlines else broken
        if self.bare_before is not None and self.bare_before[line + 1] > self.bare_before[line]:
            return line, Verdict.BARE_LINE_END, 0
        return line, Verdict.MALFORMED_QUOTE, 0

    def _open_at_end(self, start: int, broken: tuple[int, Verdict, int]) -> tuple[int, Verdict, int] | None:
        if self.final or len(self.data) - start > MAX_SPAN_BYTES:
            return broken
        return None

    def _swallows(self, line: int, last: int) -> bool:
        """Whether the record from `line` to `last` looks like records of their own that lost a quote.

        Either whole records lie between the two lines, or each of the two has just the right number of fields if the
        quote that joins them is taken for text.
        """
        fields = self.dialect.fields
        if fields < SWALLOW_CHECK_FIELDS or self.dialect.quote is None:
            return False
        if self.good_before[last] > self.good_before[line + 1]:
            return True
        delimiter, quote = self.dialect.delimiter, self.dialect.quote
        end, start = int(self.ends[line]), int(self.starts[last])
        after_opening = self.data.count(delimiter, self.data.rfind(quote, 0, end), end)
        if int(self.outside[line]) + after_opening != fields - 1:
            return False
        before_closing = self.data.count(delimiter, start, self.data.find(quote, start))
        return int(self.inside[last]) + before_closing == fields - 1


@dataclass(frozen=True)
class _Patterns:
    record: re.Pattern[bytes]
    """A whole record of the expected number of fields, with its line end."""
    any_record: re.Pattern[bytes]
    """A whole record of any number of fields."""
    field_end: re.Pattern[bytes]
    """Matches once for each field of a whole record."""
    unclosed: re.Pattern[bytes]
    """A record whose last field is quoted and still open where the data ends."""


@lru_cache(maxsize=64)
def _patterns(dialect: Dialect) -> _Patterns:
    delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote or b"")
    line_end = rb"\r*+\n" if dialect.line_end == LINE_FEED else rb"\r"
    quoted = b"".join((quote, b"(?:[^", quote, b"]++|", quote, quote, b")*+"))
    # An unquoted field is everything up to the next delimiter; quotes in its middle are text.
    field = b"".join((b"(?:", quoted, quote, b"|(?!", quote, b")[^", delimiter, rb"\r\n]*+)"))
    more = b"".join((delimiter, field))
    return _Patterns(
        record=re.compile(b"".join((field, b"(?:", more, b"){%d}" % (dialect.fields - 1), line_end))),
        any_record=re.compile(b"".join((field, b"(?:", more, b")*+", line_end))),
        field_end=re.compile(b"".join((field, b"(?:", delimiter, b"|", line_end, b")"))),
        unclosed=re.compile(b"".join((b"(?:", field, delimiter, b")*+", quoted, rb"\Z"))),
    )
