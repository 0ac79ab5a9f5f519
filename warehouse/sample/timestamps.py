"""Naive shop-local times as whole seconds since midnight of the period's first day, and as text."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.sample.randomness import IntArray
from warehouse.sample.trading import summer_times


def skip_missing_hours(seconds: IntArray, start: date, days: int) -> IntArray:
    """`seconds` with times inside the hour that a change to summer time skips moved behind it.

    Keeps the order of sorted times only if nothing else falls into the hour after; sort again where that matters.
    """
    for hour, _ in summer_times(start, days):
        missing = (seconds >= hour) & (seconds < hour + 3600)
        if missing.any():
            seconds = np.where(missing, seconds + 3600, seconds)
    return seconds


def local_text(seconds: IntArray, start: date) -> pa.StringArray:
    """`YYYY-MM-DD HH:MM:SS` of each time."""
    epoch = (start - date(1970, 1, 1)).days * 86400
    return pc.cast(pa.array(seconds + epoch, type=pa.timestamp("s")), pa.string())


def utc_milliseconds(seconds: IntArray, start: date, days: int) -> IntArray:
    """Milliseconds since 1970 in UTC of each naive local time."""
    ahead = np.zeros(len(seconds), dtype=np.int64)
    for first, last in summer_times(start, days):
        ahead += np.where((seconds >= first) & (seconds < last), 3600, 0)
    epoch = (start - date(1970, 1, 1)).days * 86400
    return (seconds - ahead + epoch) * 1000


def utc_text(milliseconds: IntArray) -> pa.StringArray:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ` of each time, given in milliseconds since 1970; years 1970 to 9999."""
    count = len(milliseconds)
    plain = pc.cast(pa.array(milliseconds, type=pa.timestamp("ms")), pa.string())
    width = len("YYYY-MM-DD HH:MM:SS.mmm")
    text = np.empty((count, width + 1), dtype=np.uint8)
    if count:
        text[:, :width] = np.frombuffer(plain.buffers()[2], dtype=np.uint8, count=count * width).reshape(count, width)
    text[:, 10] = ord("T")
    text[:, width] = ord("Z")
    return fixed_width_text(text)


def fixed_width_text(characters: np.ndarray) -> pa.StringArray:
    """Texts of one width from a matrix of ASCII codes, one row each."""
    count, width = characters.shape
    offsets = np.arange(count + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(characters)))
