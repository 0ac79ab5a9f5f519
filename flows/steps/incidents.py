"""Incidents that a transform leaves behind."""

from __future__ import annotations

import logging
from typing import Any

from flows.results import RunIdentity
from flows.settings import Settings
from warehouse.incidents import Incident, record_incidents, resolve_other_incidents
from warehouse.session import Session, statement

logger = logging.getLogger(__name__)

MISSING_EXCHANGE_RATE = "missing_exchange_rate"


def record_missing_rates(session: Session, run: RunIdentity, settings: Settings) -> dict[str, int]:
    """Enter an incident for each source and currency whose order lines no exchange rate converts.

    One whose rates have arrived, and whose facts are repaired, is resolved; a transform works on all sources, and so
    does this.

    Returns:
        The order lines without a rate of the run's own source, by currency.
    """
    missing = session.rows(statement("missing_exchange_rates"))
    incidents = [_missing_rate(row, settings.exchange_rate_max_age_days) for row in missing]
    for incident in incidents:
        logger.info("%s", incident.reason)
    record_incidents(session, run.run_id, incidents)
    resolve_other_incidents(session, run.run_id, MISSING_EXCHANGE_RATE, incidents)
    return {row["currency"]: int(row["order_lines"]) for row in missing if row["source_system"] == run.source}


def _missing_rate(row: dict[str, Any], most_days: int) -> Incident:
    lines, days, currency = int(row["order_lines"]), int(row["days"]), row["currency"]
    span = f"{row['first_day']}" if days == 1 else f"{days:,} days, {row['first_day']} to {row['last_day']}"
    last = row["last_rate_date"]
    known = (
        f"the latest rate before its last day is of {last}, and one may be {most_days} days old"
        if last is not None
        else "no rate of it is known up to its last day"
    )
    return Incident(
        kind=MISSING_EXCHANGE_RATE,
        severity="warning",
        source_system=row["source_system"],
        subject=f"{row['source_system']} {currency}",
        cause=currency,
        reason=(
            f"{lines:,} order line{'' if lines == 1 else 's'} of {row['source_system']} in {currency} ({span}; net "
            f"{row['net_amount']:,f} {currency}) {'is' if lines == 1 else 'are'} in no amount in "
            f"{row['reporting_currency']}, for want of an exchange rate: {known}. Land the missing rates as fx_rates "
            f"of source {row['rate_source']}; the run that loads them converts these orders"
        ),
        evidence={
            "currency": currency,
            "reporting_currency": row["reporting_currency"],
            "rate_source": row["rate_source"],
            "order_lines": lines,
            "days": days,
            "first_day": str(row["first_day"]),
            "last_day": str(row["last_day"]),
            "net_amount": str(row["net_amount"]),
            "last_rate_date": None if last is None else str(last),
        },
    )
