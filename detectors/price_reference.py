"""What a history says about prices: each product's levels, its usual price, and the price points of the whole shop.

MAD of log price is 0 for most products of a shop with list prices, so distance is measured to the nearest *level* the
product is known to sell at, and spread is shrunk towards the shop's. A level counts as trusted when it was seen on
several distinct days (wholesale and retail prices side by side are legitimate), or when somebody confirmed it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from detectors.order_lines import BoolArray, ChosenLines, FloatArray, IntArray, OrderLines, Vocabularies

# Prices are compared as whole ten-thousandths: more decimals than any price list carries, no float equality.
PRICE_UNITS = 10_000
_PRICE_BITS = 40
_PRICE_LIMIT = (1 << _PRICE_BITS) - 1
# A level is trusted after this many distinct days…
TRUSTED_DAYS = 2
# …and this share of the product's lines: in a product sold thousands of times a fault can hit one price twice.
TRUSTED_SHARE = 0.002


def price_units(price: FloatArray) -> IntArray:
    """Prices as whole ten-thousandths, at least 1; for NaN, zero and below the result is 1 and means nothing."""
    scaled = np.rint(np.nan_to_num(np.abs(price), nan=0.0) * PRICE_UNITS)
    return np.clip(scaled, 1, _PRICE_LIMIT).astype(np.int64)


def decimals(units: IntArray) -> IntArray:
    """How many decimals a price is written with (0 to 4)."""
    places = np.full(len(units), 4, dtype=np.int64)
    for place, step in ((3, 10), (2, 100), (1, 1_000), (0, 10_000)):
        places[units % step == 0] = place
    return places


def _group_starts(sorted_keys: IntArray) -> IntArray:
    return np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]]) if len(sorted_keys) else np.empty(0, int)


def find(sorted_keys: IntArray, wanted: IntArray) -> IntArray:
    """Each wanted key's place among the sorted keys, −1 where it is absent."""
    if not len(sorted_keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return np.where(sorted_keys[place] == wanted, place, -1).astype(np.int64)


@dataclass(frozen=True)
class PriceMatch:
    """Where each line stands against the reference, one array element a line.

    series: place of the line's product and currency among the learned ones, −1 if never seen. known: the price is one
    of the levels judged against. usual: log of the usual price, NaN if there is nothing to compare with. ratio: signed
    log ratio to the nearest level (to `usual` where there are no levels). lines: lines of history behind it. borrowed:
    the usual price comes from the category, another currency or the shop. level: place of the price among all levels
    ever seen, trusted or not, −1 if never. nearest: log of the nearest level.
    """

    series: IntArray
    known: BoolArray
    usual: FloatArray
    ratio: FloatArray
    lines: FloatArray
    borrowed: BoolArray
    level: IntArray
    nearest: FloatArray


@dataclass(frozen=True)
class PriceReference:
    """Price levels by product and currency. All arrays are numbers and can be stored as they are."""

    currencies: int
    series_keys: IntArray
    series_lines: FloatArray
    series_usual: FloatArray
    level_keys: IntArray
    level_lines: FloatArray
    level_days: FloatArray
    level_trusted: BoolArray
    reference_keys: IntArray
    product_usual: FloatArray
    category_usual: FloatArray
    currency_median: FloatArray
    currency_spread: FloatArray
    currency_lines: FloatArray
    point_keys: IntArray
    point_products: FloatArray
    decimals_share: FloatArray
    points_total: float

    @classmethod
    def learn(
        cls, lines: OrderLines, vocabularies: Vocabularies, known_price_levels: pa.Table | None = None
    ) -> PriceReference:
        """Learns from the sales lines with a positive price and quantity.

        known_price_levels: columns product_id, unit_price and optionally currency (absent or NULL: every currency of
        the product); these levels are trusted however rarely they were seen.
        """
        currencies = len(vocabularies.currency) + 1
        products = len(vocabularies.product)
        usable = (lines.product >= 0) & (lines.price > 0) & (lines.quantity > 0) & (lines.returned != 1)
        currency = np.where(lines.currency < 0, currencies - 1, lines.currency)[usable]
        product = lines.product[usable]
        price = lines.price[usable]
        occasion = lines.occasion[usable]
        series_keys, series = np.unique(product * currencies + currency, return_inverse=True)
        series = series.astype(np.int64)
        series_lines = np.bincount(series, minlength=len(series_keys)).astype(np.float64)

        keys = (series << _PRICE_BITS) | price_units(price)
        by_key = np.lexsort((occasion, keys))
        keys, occasion = keys[by_key], occasion[by_key]
        starts = _group_starts(keys)
        level_keys = keys[starts]
        level_lines = np.diff(np.r_[starts, len(keys)]).astype(np.float64)
        new_day = np.r_[True, (keys[1:] != keys[:-1]) | (occasion[1:] != occasion[:-1])] if len(keys) else np.empty(0)
        level_days = np.add.reduceat(new_day.astype(np.float64), starts) if len(starts) else np.empty(0)
        level_series = level_keys >> _PRICE_BITS
        enough = np.maximum(TRUSTED_DAYS, TRUSTED_SHARE * series_lines[level_series])
        trusted = (level_days >= TRUSTED_DAYS) & (level_lines >= enough)
        if known_price_levels is not None and known_price_levels.num_rows:
            added = _confirmed_level_keys(known_price_levels, vocabularies, series_keys, currencies)
            level_keys, level_lines, level_days, trusted = _with_confirmed(
                added, level_keys, level_lines, level_days, trusted
            )
            level_series = level_keys >> _PRICE_BITS

        # A product never seen twice at one price is judged by every price it was seen at.
        has_trusted = np.zeros(len(series_keys), dtype=bool)
        has_trusted[level_series[trusted]] = True
        reference = trusted | ~has_trusted[level_series]
        reference_keys = level_keys[reference]

        # The usual price is the commonest of the levels judged against; ties go to the lower price.
        weight = np.where(reference, level_lines, -1.0)
        by_weight = np.lexsort((level_keys, -weight, level_series))
        first = by_weight[_group_starts(level_series[by_weight])]
        series_usual = np.full(len(series_keys), np.nan)
        series_usual[level_series[first]] = np.log((level_keys[first] & _PRICE_LIMIT) / PRICE_UNITS)

        log_price = np.log(price)
        currency_median, currency_spread = _median_and_spread(log_price, currency, currencies)
        currency_lines = np.bincount(currency, minlength=currencies).astype(np.float64)

        series_product = series_keys // currencies
        series_currency = series_keys % currencies
        neutral = series_usual - currency_median[series_currency]
        by_product = np.lexsort((series_currency, -series_lines, series_product))
        main = by_product[_group_starts(series_product[by_product])]
        product_usual = np.full(products, np.nan)
        product_usual[series_product[main]] = neutral[main]

        category_usual, _ = _median_and_spread(
            log_price - currency_median[currency], lines.category[usable], len(vocabularies.category)
        )

        point = (series_currency[level_series[trusted]] << _PRICE_BITS) | (level_keys[trusted] & _PRICE_LIMIT)
        point_keys, point_products = np.unique(point, return_counts=True)
        places = np.bincount(decimals(level_keys[trusted] & _PRICE_LIMIT), minlength=5).astype(np.float64)
        return cls(
            currencies,
            series_keys,
            series_lines,
            series_usual,
            level_keys,
            level_lines,
            level_days,
            trusted,
            reference_keys,
            product_usual,
            category_usual,
            currency_median,
            currency_spread,
            currency_lines,
            point_keys,
            point_products.astype(np.float64),
            (places + 0.5) / (places.sum() + 2.5),
            float(trusted.sum()),
        )

    def match(self, lines: OrderLines, price: FloatArray | None = None) -> PriceMatch:
        """Places each line's price (or another price put in its stead) among the levels of its product."""
        price = lines.price if price is None else price
        units = price_units(price)
        log_price = np.log(units / PRICE_UNITS)
        currency = np.where(lines.currency < 0, self.currencies - 1, lines.currency)
        series = find(self.series_keys, np.where(lines.product < 0, -1, lines.product * self.currencies + currency))
        seen = series >= 0
        wanted = (series << _PRICE_BITS) | units
        wanted[~seen] = -1
        level = find(self.level_keys, wanted)

        nearest = np.full(len(price), np.nan)
        if len(self.reference_keys):
            right = np.minimum(np.searchsorted(self.reference_keys, wanted), len(self.reference_keys) - 1)
            left = np.maximum(right - 1, 0)
            distance = np.full(len(price), np.inf)
            for neighbour in (left, right):
                key = self.reference_keys[neighbour]
                level_log = np.log((key & _PRICE_LIMIT) / PRICE_UNITS)
                apart = np.where(seen & ((key >> _PRICE_BITS) == series), np.abs(log_price - level_log), np.inf)
                nearest = np.where(apart < distance, level_log, nearest)
                distance = np.minimum(distance, apart)
        known = seen & (np.abs(log_price - nearest) == 0.0)

        usual = np.full(len(price), np.nan)
        if len(self.series_usual):
            usual = np.where(seen, self.series_usual[series], np.nan)
        # A pair of product and currency never seen: the product in its own currency, then the category, then the shop.
        base = self.currency_median[currency]
        overall = self.overall_median
        base = np.where(np.isnan(base), overall, base)
        borrowed = np.isnan(usual)
        for codes, values in ((lines.product, self.product_usual), (lines.category, self.category_usual)):
            if len(values):
                usual = np.where(np.isnan(usual) & (codes >= 0), base + values[codes], usual)
        usual = np.where(np.isnan(usual), base, usual)
        nearest = np.where(np.isnan(nearest), usual, nearest)
        count = np.where(seen, self.series_lines[series], 0.0) if len(self.series_lines) else np.zeros(len(price))
        return PriceMatch(series, known, usual, log_price - nearest, count, borrowed, level, nearest)

    @property
    def overall_median(self) -> float:
        """Log of the shop's typical price: the median in its commonest currency; NaN without any history."""
        return float(self.currency_median[int(np.argmax(self.currency_lines))])

    def is_level_within(self, series: IntArray, price: FloatArray, share: float, money: float) -> BoolArray:
        """Whether a level of the series lies within a share of the price, or within `money`, whichever is more."""
        if not len(self.reference_keys):
            return np.zeros(len(price), dtype=bool)
        within = np.maximum(price * share, money)
        low = (np.maximum(series, 0) << _PRICE_BITS) | price_units(np.maximum(price - within, 1 / PRICE_UNITS))
        high = (np.maximum(series, 0) << _PRICE_BITS) | price_units(price + within)
        found = np.searchsorted(self.reference_keys, high, "right") > np.searchsorted(self.reference_keys, low, "left")
        return found & (series >= 0)

    def is_level(self, series: IntArray, price: FloatArray, within: float) -> BoolArray:
        """Whether a level of the series lies within `within` (in money) of the price."""
        return self.is_level_within(series, price, 0.0, within)

    def point_surprise(self, lines: OrderLines | ChosenLines, units: IntArray) -> FloatArray:
        """How unusual a price point is in this shop: −log10 of the smoothed share of products sold at exactly it.

        Shops price at few points (.95, .49); a price times an exchange rate lands between them. A point never seen
        gets a share of half a product, times how common its number of decimals is.
        """
        currency = np.where(lines.currency < 0, self.currencies - 1, lines.currency)
        place = find(self.point_keys, (currency << _PRICE_BITS) | units)
        seen = np.where(place >= 0, self.point_products[place], 0.0) if len(self.point_keys) else np.zeros(len(units))
        share = (seen + 0.5 * self.decimals_share[decimals(units)]) / (self.points_total + 1.0)
        return -np.log10(share)


def _median_and_spread(values: FloatArray, group: IntArray, groups: int) -> tuple[FloatArray, FloatArray]:
    """Median and 1.4826 × MAD by group (NaN for an empty one); codes below 0 belong to no group."""
    median = np.full(groups, np.nan)
    spread = np.full(groups, np.nan)
    for result, data in ((median, values), (spread, None)):
        if data is None:
            data = np.abs(values - np.where(group >= 0, median[group], np.nan)) * 1.4826 if groups else values
        inside = group >= 0
        by_group = np.lexsort((data[inside], group[inside]))
        codes = group[inside][by_group]
        ordered = data[inside][by_group]
        starts = _group_starts(codes)
        ends = np.r_[starts[1:], len(codes)].astype(np.int64)
        if len(starts):
            result[codes[starts]] = 0.5 * (ordered[(starts + ends - 1) // 2] + ordered[(starts + ends) // 2])
    return median, spread


def _confirmed_level_keys(
    table: pa.Table, vocabularies: Vocabularies, series_keys: IntArray, currencies: int
) -> IntArray:
    missing = [name for name in ("product_id", "unit_price") if name not in table.column_names]
    if missing:
        raise ValueError(
            f"known_price_levels lacks the column(s) {', '.join(missing)}; found {', '.join(table.column_names)}; "
            "expected product_id, unit_price and optionally currency"
        )
    product = vocabularies.product.encode(table["product_id"])
    units = price_units(table["unit_price"].cast(pa.float64()).to_numpy().astype(np.float64))
    column = table["currency"] if "currency" in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])
    stated = column.is_valid().to_numpy() if table.num_rows else np.empty(0, dtype=bool)
    currency = vocabularies.currency.encode(column)
    keys: list[IntArray] = []
    for code in range(currencies):
        applies = (product >= 0) & (~stated | (currency == code))
        series = find(series_keys, product * currencies + code)
        applies &= series >= 0
        keys.append((series[applies] << _PRICE_BITS) | units[applies])
    return np.unique(np.concatenate(keys))


def _with_confirmed(
    added: IntArray, keys: IntArray, lines: FloatArray, days: FloatArray, trusted: BoolArray
) -> tuple[IntArray, FloatArray, FloatArray, BoolArray]:
    place = find(keys, added)
    trusted = trusted.copy()
    trusted[place[place >= 0]] = True
    new = added[place < 0]
    keys = np.concatenate([keys, new])
    ordered = np.argsort(keys, kind="stable")
    return (
        keys[ordered],
        np.concatenate([lines, np.ones(len(new))])[ordered],
        np.concatenate([days, np.ones(len(new))])[ordered],
        np.concatenate([trusted, np.ones(len(new), dtype=bool)])[ordered],
    )


def known_levels_text(reference: PriceReference, series: int, limit: int = 4) -> str:
    """The levels of one series, commonest first, as text for a reason: '2.55, 2.95'."""
    low = np.searchsorted(reference.level_keys, series << _PRICE_BITS)
    high = np.searchsorted(reference.level_keys, (series + 1) << _PRICE_BITS)
    places = np.arange(low, high)
    trusted = places[reference.level_trusted[places]]
    places = trusted if len(trusted) else places
    commonest = places[np.lexsort((places, -reference.level_lines[places]))][:limit]
    return ", ".join(f"{(int(reference.level_keys[p]) & _PRICE_LIMIT) / PRICE_UNITS:g}" for p in commonest)
