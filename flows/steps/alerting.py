"""Telling people: news of a source become one alert, which is spooled for every channel, then sent, then marked.

The spool is QUALITY.ALERTS. An alert is written there in the transaction that marks its incidents as told; what a
channel does not take waits there for the next run, or for `customer-analytics alerts retry`. Who dies between sending
and marking sends again: at least once, and the alert's id in the message tells doubles apart.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.alerts import Alert, Kind, announce, channel_of, send
from flows.connections import open_session
from flows.results import AlertSummary, RunIdentity
from flows.settings import Settings
from warehouse import ledger
from warehouse.session import Session, statement

logger = logging.getLogger(__name__)

LOG_CHANNEL = "log"
"""Channel of alerts of settings without a URL: written to the log, and so delivered."""

LEASE = timedelta(minutes=10)
"""A sender that has not come back after so long is taken for dead; longer than all attempts of one take (three, each
bounded by Apprise's 8 seconds of connecting and reading, and waits of seconds)."""

FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
"""After a take that failed the channel is left alone so long; twice as long after each further one."""

MOST_CHARACTERS = 12_000
"""Of a message that joins several alerts; the others wait for the next. One alert is sent whole, however long: Apprise
cuts it to what the channel takes, or splits it where the URL says `overflow=split`."""

RATE_WINDOW = timedelta(hours=1)


def send_alerts(run: RunIdentity, settings: Settings) -> AlertSummary:
    """Say what the run found where people look: the log always, and every Apprise URL of the settings.

    One message a run and channel: failed checks, then incidents by gravity, then what was resolved. What earlier runs
    could not deliver is tried again, joined with it. A channel that can't be reached fails nothing.
    """
    with open_session(settings) as session:
        broken = session.rows(statement("failed_checks"), [run.run_id, run.run_id])
        if broken and int(session.scalar(statement("alert_checks_told"), [run.run_id])):
            broken = []
        alert = _spool_news(session, run, settings, broken)
        messages = deliver_spooled(session, settings)
        undelivered = int(session.scalar(statement("alert_undelivered")))
    return AlertSummary(
        alerts=int(alert is not None),
        channels=len(settings.alert_urls) if alert is not None or messages else 0,
        undelivered=undelivered,
    )


def tell_incidents(session: Session, run: RunIdentity, settings: Settings) -> int:
    """Tell the incidents of the source that people don't know of as they are now, in one alert.

    Returns:
        How many there are; resolved ones, of which people are told too, are not counted.
    """
    alert = _spool_news(session, run, settings, [])
    deliver_spooled(session, settings)
    return 0 if alert is None else alert.standing_incidents


def _spool_news(
    session: Session, run: RunIdentity, settings: Settings, broken: Sequence[Mapping[str, Any]]
) -> Alert | None:
    """Write what is new to the spool and mark its incidents as told, together; returns the alert, if there is one."""
    now = datetime.now(UTC)
    remind_before = ledger.utc_text(now - timedelta(hours=settings.alert_repeat_hours))
    incidents = session.rows(statement("alert_incidents"), [run.source, remind_before])
    alert = Alert.of_news(run.source, run.run_id, broken, incidents, settings.alert_findings_shown)
    if alert is None:
        return None
    alert_id, moment = uuid.uuid4().hex, ledger.utc_text(now)
    channels = list(dict.fromkeys(channel_of(url.get_secret_value()) for url in settings.alert_urls))
    rows = [
        {
            "alert_id": alert_id,
            "channel": channel,
            "title": alert.title,
            "body": alert.body,
            "kind": alert.kind,
            "incident_ids": list(alert.incident_ids),
            "failed_checks": alert.failed_checks,
            "run_id": run.run_id,
            "created_at": moment,
            "delivered_at": moment if channel == LOG_CHANNEL else None,
        }
        for channel in channels or [LOG_CHANNEL]
    ]
    told = [{name: row[name] for name in ("incident_id", "severity", "state")} for row in incidents]
    standing = [row for row in told if row["state"] != "resolved"]
    with session.transaction():
        ledger.save_json(session, "alert_spool", rows)
        session.execute(statement("alert_remember_told"), [moment, json.dumps(told)])
        session.execute(statement("alert_mark_told"), [moment, json.dumps(standing)])
    announce(alert)
    return alert


def deliver_spooled(
    session: Session, settings: Settings, *, is_forced: bool = False, now: datetime | None = None
) -> int:
    """Send what waits in the spool, joined into one message a channel.

    A channel is left alone while it recovers from a failure, and after `alert_messages_per_hour` messages within an
    hour; what waits then is joined into its next message. Alerts of a channel that is no longer set go to one that is.

    Args:
        session: an open session.
        settings: the channels and their limits.
        is_forced: try channels that are recovering, too. The limit holds all the same.
        now: the present moment; for tests.

    Returns:
        How many messages were sent.
    """
    urls = {channel_of(url.get_secret_value()): url.get_secret_value() for url in settings.alert_urls}
    if not urls:
        return 0
    moment = now or datetime.now(UTC)
    _readdress(session, list(urls), moment)
    sent = 0
    for position, (channel, url) in enumerate(urls.items(), start=1):
        pending = session.rows(statement("alert_pending"), [channel, ledger.utc_text(moment)])
        is_due = any(_utc(row["next_attempt_at"]) <= moment for row in pending)
        if not pending or not (is_due or is_forced):
            continue
        lately = session.rows(statement("alert_sent_lately"), [channel, ledger.utc_text(moment - RATE_WINDOW)])[0]
        if int(lately["messages"]) >= settings.alert_messages_per_hour:
            why = f"waits: the channel had {lately['messages']} messages within the hour (alert_messages_per_hour)"
            later = ledger.utc_text(_utc(lately["first_delivered_at"]) + RATE_WINDOW)
            session.execute(statement("alert_postpone"), [why, later, channel])
            logger.info("alert channel %d of %d: %d alerts wait, %s", position, len(urls), len(pending), why)
            continue
        sent += _take(session, settings, pending, (position, channel, url), moment)
    return sent


def _readdress(session: Session, channels: Sequence[str], moment: datetime) -> None:
    """See to alerts of channels that are no longer set: a URL was replaced, or given up."""
    known = json.dumps([{"channel": channel} for channel in channels])
    session.execute(statement("alert_readdress"), [channels[0], known, channels[0]])
    session.execute(statement("alert_forget_channels"), [ledger.utc_text(moment), known])


def _take(
    session: Session,
    settings: Settings,
    pending: Sequence[Mapping[str, Any]],
    place: tuple[int, str, str],
    moment: datetime,
) -> int:
    """One message of a channel: claim what fits, send it, enter how that went; returns 1 where it was taken."""
    position, channel, url = place
    sender = uuid.uuid4().hex
    wanted = json.dumps([{"alert_id": row["alert_id"]} for row in _that_fit(pending)])
    until = ledger.utc_text(moment + LEASE)
    session.execute(statement("alert_claim"), [sender, until, channel, ledger.utc_text(moment), wanted])
    mine = {row["alert_id"] for row in session.rows(statement("alert_claimed"), [sender])}
    chosen = [row for row in pending if row["alert_id"] in mine]
    if not chosen:  # another sender was faster
        return 0
    error = _send_patiently(_joined(chosen), url, settings)
    if error is None:
        session.execute(statement("alert_delivered"), [ledger.utc_text(moment), sender])
        return 1
    tried = max(int(row["attempts"]) for row in chosen)
    wait = min(FIRST_WAIT * 2 ** min(tried, 10), LONGEST_WAIT)
    session.execute(statement("alert_refused"), [error, ledger.utc_text(moment + wait), sender])
    logger.error(
        "alert channel %d of %d did not take %d alerts: %s; the next run tries again, or now: "
        "customer-analytics alerts retry",
        position,
        len(settings.alert_urls),
        len(chosen),
        error,
    )
    return 0


def _that_fit(pending: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    chosen: list[Mapping[str, Any]] = []
    length = 0
    for row in pending:
        length += len(row["title"]) + len(row["body"])
        if chosen and length > MOST_CHARACTERS:
            break
        chosen.append(row)
    return chosen


def _joined(rows: Sequence[Mapping[str, Any]]) -> Alert:
    """Spooled alerts as one message; each carries its id."""
    kinds = {row["kind"] for row in rows}
    kind: Kind = "failure" if "failure" in kinds else "warning" if "warning" in kinds else "success"
    parts = [f"{row['body']} · alert {row['alert_id']}, written {row['created_at']:%Y-%m-%d %H:%M} UTC" for row in rows]
    if len(rows) == 1:
        return Alert(title=rows[0]["title"], body=parts[0], kind=kind)
    parts = [f"{row['title']}\n{part}" for row, part in zip(rows, parts, strict=True)]
    title = (
        f"Customer analytics: {len(rows)} alerts, the last one {rows[-1]['title'].removeprefix('Customer analytics, ')}"
    )
    return Alert(title=title, body="\n\n".join(parts), kind=kind)


def _send_patiently(alert: Alert, url: str, settings: Settings) -> str | None:
    """Try a channel `alert_attempts` times, with growing waits; returns the last error, if none was taken."""
    from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_exponential_jitter

    def last_error(state: RetryCallState) -> str | None:
        return None if state.outcome is None else state.outcome.result()

    retrying = Retrying(
        stop=stop_after_attempt(settings.alert_attempts),
        wait=wait_exponential_jitter(initial=settings.alert_retry_seconds, max=30, jitter=settings.alert_retry_seconds),
        retry=retry_if_result(lambda error: error is not None),
        retry_error_callback=last_error,
    )
    return retrying(send, alert, url)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
