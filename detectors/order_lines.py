"""Order lines as numpy arrays: the one place where a pyarrow batch is read, whatever types it came in."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

INPUT_COLUMNS = (
    "order_id",
    "line_number",
    "product_id",
    "customer_id",
    "quantity",
    "unit_price",
    "currency",
    "country",
    "ordered_at",
    "is_returned",
)
# An optional column: the file each line came from, so that a whole file can be found wrong together.
FILE_COLUMN = "source_file"
# Without these three there is nothing to judge; any other absent column is read as all NULL.
REQUIRED_COLUMNS = ("product_id", "quantity", "unit_price")
MISSING_DAY = np.iinfo(np.int64).min


def _text_dictionary(column: pa.ChunkedArray) -> tuple[IntArray, pa.Array]:
    """Codes into a small array of distinct texts (−1 for NULL), so that text work is done once a distinct value."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.string())
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    codes = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False).copy()
    values = array.dictionary.cast(pa.string())
    if values.null_count:
        codes[~values.is_valid().to_numpy(zero_copy_only=False)[codes] & (codes >= 0)] = -1
    return codes, values


@dataclass(frozen=True)
class Vocabulary:
    """Distinct texts in sorted order; a text's code is its place. Texts are compared trimmed and upper-cased."""

    values: pa.Array

    @classmethod
    def learn(cls, column: pa.ChunkedArray) -> Vocabulary:
        _, values = _text_dictionary(column)
        distinct = pc.unique(pc.utf8_upper(pc.utf8_trim_whitespace(values))).drop_null()
        return cls(distinct.take(pc.sort_indices(distinct)))

    def __len__(self) -> int:
        return len(self.values)

    def encode(self, column: pa.ChunkedArray) -> IntArray:
        """Each row's code; −1 where the text is NULL or was never learned."""
        codes, values = _text_dictionary(column)
        if not len(values):
            return np.full(len(codes), -1, dtype=np.int64)
        normalized = pc.utf8_upper(pc.utf8_trim_whitespace(values))
        learned = pc.index_in(normalized, self.values).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return np.where(codes >= 0, learned[codes], -1)


@dataclass(frozen=True)
class Vocabularies:
    """The vocabularies a fitted model shares with all its detectors."""

    product: Vocabulary
    customer: Vocabulary
    currency: Vocabulary
    category: Vocabulary


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.column_names:
        return table[name]
    return pa.chunked_array([pa.nulls(table.num_rows)])


def _as_float(table: pa.Table, name: str) -> FloatArray:
    column = table[name]
    try:
        values = column.cast(pa.float64()).to_numpy().astype(np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypeError(
            f"column {name!r} holds {column.type}: expected a number (decimal, float or integer); cast it first"
        ) from error
    return np.where(np.isfinite(values), values, np.nan)


def _as_day(table: pa.Table) -> IntArray:
    column = _column(table, "ordered_at")
    try:
        days = column.cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypeError(f"column 'ordered_at' holds {column.type}: expected a timestamp or a date") from error
    return days.fill_null(MISSING_DAY).to_numpy().astype(np.int64)


@dataclass(frozen=True)
class OrderLines:
    """A batch of order lines, one array element a line.

    product, customer, currency, category: codes in the model's vocabularies, −1 for NULL or unknown. item: product and
    currency as dense codes of this batch, known to the model or not.
    order: dense codes within this batch (a line without an order id is an order of its own); order_size: its lines.
    file: codes of the source files, None if the batch doesn't name them.
    quantity, price: NaN for NULL or not finite. returned: 1, 0, or −1 for unknown. day: days since 1970-01-01 or
    MISSING_DAY. has_customer: whether the line names any customer, known to the model or not. remembered: results a
    fitted model computed for this very batch and needs more than once.
    """

    table: pa.Table
    item: IntArray
    product: IntArray
    customer: IntArray
    currency: IntArray
    category: IntArray
    order: IntArray
    file: IntArray | None
    order_size: IntArray
    quantity: FloatArray
    price: FloatArray
    returned: IntArray
    day: IntArray
    has_customer: BoolArray
    remembered: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.product)

    @property
    def occasion(self) -> IntArray:
        """The day, or where it is missing a number of the order's own: what 'seen on several days' counts."""
        return np.where(self.day == MISSING_DAY, -1_000_000_000 - self.order, self.day)

    def take_flat(self, rows: IntArray) -> ChosenLines:
        """Codes of the chosen lines, each order's size as in the whole batch."""
        return ChosenLines(
            self.product[rows],
            self.customer[rows],
            self.currency[rows],
            self.category[rows],
            self.order_size[rows],
            self.has_customer[rows],
        )

    def take(self, rows: IntArray | BoolArray) -> OrderLines:
        """The chosen lines, in the order given; orders are numbered anew, by their first line."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        _, first, code = np.unique(self.order[rows], return_index=True, return_inverse=True)
        number = np.empty(len(first), dtype=np.int64)
        number[np.argsort(first)] = np.arange(len(first))
        order = number[code]
        size = np.bincount(order)[order] if len(order) else order
        return OrderLines(
            self.table,
            self.item[rows],
            self.product[rows],
            self.customer[rows],
            self.currency[rows],
            self.category[rows],
            order,
            None if self.file is None else np.unique(self.file[rows], return_inverse=True)[1].astype(np.int64),
            size,
            self.quantity[rows],
            self.price[rows],
            self.returned[rows],
            self.day[rows],
            self.has_customer[rows],
        )


@dataclass(frozen=True)
class ChosenLines:
    """Some lines' codes, without their orders' bounds; see `OrderLines.take_flat`."""

    product: IntArray
    customer: IntArray
    currency: IntArray
    category: IntArray
    order_size: IntArray
    has_customer: BoolArray


def check_columns(table: pa.Table) -> None:
    """Raises ValueError naming the required columns that `table` lacks."""
    missing = [name for name in REQUIRED_COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"order lines lack the column(s) {', '.join(missing)}; found {', '.join(table.column_names) or 'none'}; "
            f"expected {', '.join(INPUT_COLUMNS)}"
        )


def learn_vocabularies(table: pa.Table) -> Vocabularies:
    """The texts of a history, to be shared by every detector fitted on it."""
    return Vocabularies(
        *(Vocabulary.learn(_column(table, name)) for name in ("product_id", "customer_id", "currency", "category"))
    )


def read_order_lines(table: pa.Table, vocabularies: Vocabularies) -> OrderLines:
    """Reads a batch. Raises ValueError for missing columns and TypeError for columns of a wrong type."""
    check_columns(table)
    rows = table.num_rows
    order, order_values = _text_dictionary(_column(table, "order_id"))
    alone = order < 0
    order[alone] = len(order_values) + np.arange(int(alone.sum()))
    order_size = np.bincount(order)[order] if rows else order
    file = None
    if FILE_COLUMN in table.column_names:
        file = _text_dictionary(table[FILE_COLUMN])[0] + 1
    product_text, _ = _text_dictionary(table["product_id"])
    currency_text, currency_values = _text_dictionary(_column(table, "currency"))
    item = (product_text + 1) * (len(currency_values) + 1) + currency_text + 1
    returned_column = _column(table, "is_returned").cast(pa.bool_()).cast(pa.int64()).fill_null(-1)
    customer_column = _column(table, "customer_id")
    customer = vocabularies.customer.encode(customer_column)
    return OrderLines(
        table=table,
        item=item,
        product=vocabularies.product.encode(table["product_id"]),
        customer=customer,
        currency=vocabularies.currency.encode(_column(table, "currency")),
        category=vocabularies.category.encode(_column(table, "category")),
        order=order,
        file=file,
        order_size=order_size.astype(np.int64),
        quantity=_as_float(table, "quantity"),
        price=_as_float(table, "unit_price"),
        returned=returned_column.to_numpy().astype(np.int64),
        day=_as_day(table),
        has_customer=customer_column.is_valid().to_numpy(),
    )


def canonical_order(lines: OrderLines) -> IntArray:
    """A row order that depends on the lines' contents only, so that fitting does not depend on how they arrived.

    Lines that are equal in everything, order id included, are interchangeable.
    """
    column = _column(lines.table, "order_id")
    by_name = Vocabulary.learn(column).encode(column)
    return np.lexsort(
        (
            np.where(by_name < 0, np.iinfo(np.int64).max, by_name),
            np.nan_to_num(lines.quantity, nan=-1.0),
            np.nan_to_num(lines.price, nan=-1.0),
            lines.returned,
            lines.order_size,
            lines.customer,
            lines.currency,
            lines.product,
            lines.day,
        )
    )
