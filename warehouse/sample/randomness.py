"""Random streams that depend on nothing but the seed and the name of their subject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def random_stream(seed: int, subject: str) -> np.random.Generator:
    """The random stream of one subject (`"baskets"`, `"returns"`, …) of one seed.

    The subject's name is the spawn key, so a new subject leaves the streams of the others as they were.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=tuple(subject.encode()))))


def cumulative(weights: Sequence[int] | IntArray) -> IntArray:
    """Running totals of whole-number weights, as `draw` wants them.

    Weights are whole numbers because float sums may differ in the last bit between processors, and a draw with them.
    """
    return np.cumsum(np.asarray(weights, dtype=np.int64))


def draw(rng: np.random.Generator, totals: IntArray, size: int) -> IntArray:
    """`size` positions of `totals` (see `cumulative`), each drawn with its weight."""
    return np.searchsorted(totals, rng.integers(0, totals[-1], size), side="right").astype(np.int64)


def chance(rng: np.random.Generator, per_mille: int, size: int) -> npt.NDArray[np.bool_]:
    """`size` throws, each true with probability `per_mille` / 1000."""
    return rng.integers(0, 1000, size) < per_mille


def power_weights(size: int, exponent: float, offset: float = 0.0) -> IntArray:
    """Weights that fall as `(rank + offset) ** -exponent`, rank from 1: Zipf's law, as whole numbers."""
    ranks = np.arange(1, size + 1, dtype=np.float64) + offset
    scale = 10.0**9 * (1.0 + offset) ** exponent
    return np.maximum(np.rint(scale * ranks**-exponent), 1).astype(np.int64)
