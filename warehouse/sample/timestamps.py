"""Naive shop-local times as whole seconds since midnight of the period's first day, and as text."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.sample.randomness import IntArray
from warehouse.sample.trading import skipped_hour_starts


def skip_missing_hours(seconds: IntArray, start: date, days: int) -> IntArray:
    """`seconds` with times inside the hour that a change to summer time skips moved behind it.

    Keeps the order of sorted times only if nothing else falls into the hour after; sort again where that matters.
    """
    for hour in skipped_hour_starts(start, days):
        missing = (seconds >= hour) & (seconds < hour + 3600)
        if missing.any():
            seconds = np.where(missing, seconds + 3600, seconds)
    return seconds


def local_text(seconds: IntArray, start: date) -> pa.StringArray:
    """`YYYY-MM-DD HH:MM:SS` of each time."""
    epoch = (start - date(1970, 1, 1)).days * 86400
    return pc.cast(pa.array(seconds + epoch, type=pa.timestamp("s")), pa.string())
