"""A believable shop, made up from a seed: what lands in `landing/shop/`, and the exact truth about it.

Importing this package costs nothing; numpy and pyarrow are imported when a generator is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warehouse.sample.broken import BrokenLandingTruth, write_broken_landing
    from warehouse.sample.clicks import ClickBatch, ClickStream, ClickTruth
    from warehouse.sample.promotions import Promotion, promotion_calendar
    from warehouse.sample.shop import generate_shop
    from warehouse.sample.summary import SampleArgumentError, ShopSummary

__all__ = [
    "BrokenLandingTruth",
    "ClickBatch",
    "ClickStream",
    "ClickTruth",
    "Promotion",
    "SampleArgumentError",
    "ShopSummary",
    "generate_shop",
    "promotion_calendar",
    "write_broken_landing",
]

_MODULES = {
    "BrokenLandingTruth": "broken",
    "ClickBatch": "clicks",
    "ClickStream": "clicks",
    "ClickTruth": "clicks",
    "Promotion": "promotions",
    "SampleArgumentError": "summary",
    "ShopSummary": "summary",
    "generate_shop": "shop",
    "promotion_calendar": "promotions",
    "write_broken_landing": "broken",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
