"""Order lines written by hand, and what staging must make of each."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

FINE: dict[str, str | None] = {
    "order_id": "1001",
    "ordered_at": "2024-01-15 10:00:00",
    "customer_id": "17850.0",
    "product_id": "85123a",
    "product_description": "Cup",
    "quantity": "2",
    "unit_price": "2.5",
    "country": "UK",
}

# name → (what differs from FINE, values the fact must have)
ACCEPTED: dict[str, tuple[dict[str, str | None], dict[str, Any]]] = {
    "ids are trimmed, codes upper-cased, floats cut": (
        {"order_id": " 1002\t", "product_id": " 85123a "},
        {"order_id": "1002", "product_id": "85123A", "customer_id": "17850", "currency": "GBP"},
    ),
    "country by its usual name": ({"order_id": "1003", "country": "eire"}, {"country": "Ireland"}),
    "country that nobody knows": ({"order_id": "1004", "country": " Unspecified "}, {"country": "Unspecified"}),
    "guest": ({"order_id": "1005", "customer_id": " "}, {"customer_id": None}),
    "price of nothing": ({"order_id": "1006", "unit_price": "0"}, {"net_amount": Decimal("0.0000")}),
    "price below nothing": (
        {"order_id": "A1007", "unit_price": "-11062.06", "quantity": "1"},
        {"net_amount": Decimal("-11062.0600"), "order_status": "adjusted", "is_returned": False},
    ),
    "quantity of nothing": ({"order_id": "1008", "quantity": "0"}, {"quantity": Decimal("0.0000")}),
    "cancellation": (
        {"order_id": "c1009", "quantity": "-2"},
        {"order_status": "cancelled", "is_returned": True, "net_amount": Decimal("-5.0000")},
    ),
    "return without a status": (
        {"order_id": "1010", "quantity": "-1"},
        {"order_status": "returned", "is_returned": True},
    ),
    "placed by default": ({"order_id": "1011"}, {"order_status": "placed", "is_returned": False}),
    "status by another word": ({"order_id": "1012", "order_status": " Refunded"}, {"order_status": "returned"}),
    "status in the source's own word": ({"order_id": "1013", "order_status": "On Hold"}, {"order_status": "on hold"}),
    "code that is no product": ({"order_id": "1014", "product_id": "post"}, {"is_merchandise": False}),
    "code that only begins like one": ({"order_id": "1015", "product_id": "POSTER"}, {"is_merchandise": True}),
    "code that a pattern covers": ({"order_id": "1016", "product_id": "gift_0001"}, {"is_merchandise": False}),
    "discount": (
        {"order_id": "1017", "discount_amount": "0.25"},
        {"discount_amount": Decimal("0.2500"), "net_amount": Decimal("4.7500")},
    ),
    "noise of binary floats": (
        {"order_id": "1018", "unit_price": "2.5500000000000003"},
        {"unit_price": Decimal("2.5500")},
    ),
    "scientific notation": ({"order_id": "1019", "quantity": "1e3"}, {"quantity": Decimal("1000.0000")}),
    "summer time": (
        {"order_id": "1020", "ordered_at": "2024-07-01 00:30"},
        {"ordered_at": datetime(2024, 6, 30, 23, 30)},
    ),
    "business date is the shop's day": (
        {"order_id": "1021", "ordered_at": "2024-06-30T23:30:00Z"},
        {"ordered_at": datetime(2024, 6, 30, 23, 30), "order_date_key": 20240701},
    ),
    "offset in the text": (
        {"order_id": "1022", "ordered_at": "2024-01-15T10:00:00.250+05:30"},
        {"ordered_at": datetime(2024, 1, 15, 4, 30, 0, 250000)},
    ),
    "offset west, without colon": (
        {"order_id": "1023", "ordered_at": "2024-01-15 22:00 -0500"},
        {"ordered_at": datetime(2024, 1, 16, 3, 0), "order_date_key": 20240116},
    ),
    "day only": ({"order_id": "1024", "ordered_at": "2024/01/15"}, {"ordered_at": datetime(2024, 1, 15)}),
    "time that never occurs": (
        {"order_id": "1025", "ordered_at": "2024-03-31 01:30:00"},
        {"ordered_at": datetime(2024, 3, 31, 1, 30)},
    ),
    "time that occurs twice": (
        {"order_id": "1026", "ordered_at": "2024-10-27 01:30:00"},
        {"ordered_at": datetime(2024, 10, 27, 0, 30)},
    ),
    "leap day": ({"order_id": "1027", "ordered_at": "2024-02-29 12:00:00"}, {"order_date_key": 20240229}),
    "own currency": ({"order_id": "1028", "currency": "eur"}, {"currency": "EUR"}),
    "return that names its sale": (
        {"order_id": "1029", "quantity": "-1", "returned_order_id": "1001", "returned_line_number": "3"},
        {"returned_order_id": "1001", "returned_line_number": 3},
    ),
    "twice the same line: first": ({"order_id": "1030"}, {"line_number": 1}),
    "twice the same line: second": ({"order_id": "1030"}, {"line_number": 2}),
    "rounded to four places": (
        {"order_id": "1031", "quantity": "0.3333", "unit_price": "0.0005"},
        {"gross_amount": Decimal("0.0002")},
    ),
}

# name → (what differs from FINE, part of the reason, gross_amount of the reject)
REJECTED: dict[str, tuple[dict[str, str | None], str, Decimal | None]] = {
    "no order": ({"order_id": "  "}, "order_id is empty", Decimal("5.0000")),
    "no product": ({"order_id": "2002", "product_id": None}, "product_id is empty", Decimal("5.0000")),
    "no quantity": ({"order_id": "2003", "quantity": ""}, "quantity is empty", None),
    "thousands separator": (
        {"order_id": "2004", "quantity": "1,234.50"},
        "quantity '1,234.50' is not a plain decimal number",
        None,
    ),
    "currency sign": ({"order_id": "2005", "unit_price": "£3.10"}, "unit_price '£3.10' is not a plain decimal", None),
    "no number": ({"order_id": "2006", "quantity": "nan"}, "quantity 'nan' is not a plain decimal number", None),
    "fifth decimal": (
        {"order_id": "2007", "unit_price": "1.00001"},
        "unit_price '1.00001' has more than 4 decimal places",
        Decimal("2.0000"),
    ),
    "huge": ({"order_id": "2008", "quantity": "123456789012345"}, "quantity '123456789012345' is out of range", None),
    "huge product": (
        {"order_id": "2009", "quantity": "99999999", "unit_price": "9999999"},
        "is out of range",
        Decimal("999999890000001.0000"),
    ),
    "discount in words": (
        {"order_id": "2010", "discount_amount": "ten"},
        "discount_amount 'ten' is not a plain decimal number",
        Decimal("5.0000"),
    ),
    "no time": ({"order_id": "2011", "ordered_at": None}, "ordered_at is empty", Decimal("5.0000")),
    "day that does not exist": (
        {"order_id": "2012", "ordered_at": "2024-02-30 10:00:00"},
        "ordered_at '2024-02-30 10:00:00' is not a time",
        Decimal("5.0000"),
    ),
    "day or month first": (
        {"order_id": "2013", "ordered_at": "01/02/2024 10:00"},
        "ordered_at '01/02/2024 10:00' is not a time",
        Decimal("5.0000"),
    ),
    "before the calendar": (
        {"order_id": "2014", "ordered_at": "1970-01-01 00:00:00"},
        "is outside the calendar",
        Decimal("5.0000"),
    ),
    "currency by name": (
        {"order_id": "2015", "currency": "Pounds"},
        "currency 'POUNDS' is not a three-letter code",
        Decimal("5.0000"),
    ),
    "line that is no number": (
        {"order_id": "2016", "line_number": "1b"},
        "line_number '1b' is not a whole number",
        Decimal("5.0000"),
    ),
    "everything at once": (
        {"order_id": None, "quantity": "x", "unit_price": None},
        "order_id is empty; quantity 'x' is not a plain decimal number; unit_price is empty",
        None,
    ),
}
