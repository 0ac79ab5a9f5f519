"""Alerts as people get them: what one message says, and one attempt to give it to a channel.

What is kept of them, and when a channel is tried again: `flows.steps.alerting`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Self

logger = logging.getLogger(__name__)

Kind = Literal["failure", "warning", "success"]

MOST_REASON_CHARACTERS = 1_200
"""Of one incident's sentence in a message."""

ID_SHOWN = 12
"""Characters of an incident's id in a message; the commands take a beginning of an id."""

RESOLVED_SHOWN = 5


@dataclass(frozen=True)
class Alert:
    """One message a person can act on."""

    title: str
    body: str
    kind: Kind
    incident_ids: tuple[str, ...] = ()
    standing_incidents: int = 0
    """Of these, the ones that are not resolved."""
    failed_checks: int = 0

    @classmethod
    def of_news(
        cls,
        source: str,
        run_id: str,
        broken: Sequence[Mapping[str, Any]],
        incidents: Sequence[Mapping[str, Any]],
        most_shown: int,
    ) -> Self | None:
        """All that is new of a source in one message; None where nothing is.

        Args:
            source: name of the source mapping.
            run_id: the run that looked.
            broken: failed reconciliations and tests (`name, detail`).
            incidents: rows of `alert_incidents.sql`, gravest first.
            most_shown: incidents written out; the others are counted.
        """
        if not broken and not incidents:
            return None
        standing = [row for row in incidents if row["news"] != "resolved"]
        resolved = [row for row in incidents if row["news"] == "resolved"]
        lines: list[str] = []
        if broken:
            lines += ["Failed checks: don't rely on the figures until each is explained."]
            lines += [f"- {row['name']}: {row['detail']}" for row in broken[:most_shown]]
            lines += _left_out(len(broken) - most_shown, "customer-analytics report")
        for place, row in enumerate(standing[:most_shown], start=1):
            lines += ["", *_paragraph(place, row)] if lines else _paragraph(place, row)
        lines += _left_out(len(standing) - most_shown, "customer-analytics incidents list --state open")
        if resolved:
            lines += ["", "Resolved:"] if lines else ["Resolved:"]
            lines += [f"- {row['kind']} of {row['subject']} ({_short(row)})" for row in resolved[:RESOLVED_SHOWN]]
            lines += _left_out(len(resolved) - RESOLVED_SHOWN, "customer-analytics incidents list --state resolved")
        lines += ["", f"Run {run_id}"]
        return cls(
            title=f"Customer analytics, {source}: {_headline(len(broken), standing, len(resolved))}",
            body="\n".join(lines),
            kind=_kind(len(broken), standing),
            incident_ids=tuple(str(row["incident_id"]) for row in incidents),
            standing_incidents=len(standing),
            failed_checks=len(broken),
        )


def _headline(broken: int, standing: Sequence[Mapping[str, Any]], resolved: int) -> str:
    by_severity = Counter(str(row["severity"]) for row in standing)
    parts = [_counted(broken, "failed check")] if broken else []
    parts += [
        _counted(by_severity[severity], f"{severity} incident")
        for severity in ("critical", "warning")
        if by_severity[severity]
    ]
    parts += [f"{resolved:,} resolved"] if resolved else []
    return ", ".join(parts)


def _kind(broken: int, standing: Sequence[Mapping[str, Any]]) -> Kind:
    if broken or any(row["severity"] == "critical" for row in standing):
        return "failure"
    return "warning" if standing else "success"


def _paragraph(place: int, row: Mapping[str, Any]) -> list[str]:
    """An incident: how grave and how new, the sentence, numbers, what to do, and the commands that decide it."""
    reason = str(row["reason"])
    if len(reason) > MOST_REASON_CHARACTERS:
        reason = reason[:MOST_REASON_CHARACTERS] + " …"
    lines = [f"{place}. {str(row['severity']).upper()} ({row['news']}): {reason}"]
    facts = []
    if row["money_at_risk"]:
        facts.append(f"at risk {Decimal(row['money_at_risk']):,.2f} {row['currency'] or ''}".rstrip())
    if row["findings"]:
        facts.append(_counted(int(row["findings"]), "finding"))
    if row["started_at"]:
        first, last = f"{row['started_at']:%Y-%m-%d %H:%M}", f"{row['ended_at'] or row['started_at']:%Y-%m-%d %H:%M}"
        facts.append(f"orders of {first} UTC" if first == last else f"orders of {first} to {last} UTC")
    if row["gate"] == "hold":
        facts.append("held out of the business marts")
    if facts:
        text = "; ".join(facts)
        lines.append(f"   {text[:1].upper()}{text[1:]}.")
    if row["what_to_do"] and str(row["what_to_do"]) not in reason:
        lines.append(f"   What to do: {row['what_to_do']}")
    choices = " · ".join(f"{what_for}: {command}" for what_for, command in commands(row))
    return [*lines, f"   {choices[:1].upper()}{choices[1:]}"]


def commands(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a person can do about an incident (`incident_id, gate, findings`, and `is_confirmed` where it is known):
    what for, and the command."""
    command, short = "customer-analytics incidents", _short(row)
    choices = [("see it", f"{command} show {short}")]
    if not row["findings"] and row["gate"] != "hold":
        return [*choices, ("somebody looks after it", f"{command} acknowledge {short}")]
    if row.get("is_confirmed"):
        choices.append(("it is put right", f"{command} resolve {short}"))
    else:
        choices += [
            ("it is an error", f"{command} confirm {short}"),
            ("it is as it should be", f"{command} dismiss {short}"),
        ]
    if row["gate"] == "hold":
        choices.append(("let it into the marts", f"{command} release {short}"))
    return choices


def _short(row: Mapping[str, Any]) -> str:
    return str(row["incident_id"])[:ID_SHOWN]


def _left_out(count: int, command: str) -> list[str]:
    return [f"… and {count:,} more: {command}"] if count > 0 else []


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def announce(alert: Alert) -> None:
    """Write the alert to the log: the title as a warning (an error for a failure), so that it is seen on a terminal
    too, and the rest as information."""
    level = {"failure": logging.ERROR, "warning": logging.WARNING, "success": logging.INFO}[alert.kind]
    logger.log(level, "%s", alert.title)
    logger.info("%s", alert.body)


def channel_of(url: str) -> str:
    """What stands for an Apprise URL in the warehouse and in logs: 16 hexadecimal digits; the URL may hold a secret."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def send(alert: Alert, url: str) -> str | None:
    """Give a message to one channel, once.

    Returns:
        None where it was taken, else why not, in words that hold nothing of the URL.
    """
    import apprise

    channel = apprise.Apprise()
    with _quiet_apprise() as said:
        if not channel.add(url):
            return "its URL is none that Apprise understands; see https://github.com/caronc/apprise for the schemes"
        try:
            is_taken = channel.notify(
                title=alert.title,
                body=alert.body,
                notify_type=apprise.NotifyType(alert.kind),
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:  # a plugin of Apprise's may raise anything; no run fails by an alert
            return f"sending raised {type(error).__name__}"
    if is_taken:
        return None
    answers = [found[1] for text in said if (found := re.search(r"\berror=(\d{3})\b", text))]
    return (
        f"the endpoint answered {answers[-1]}"
        if answers
        else "the endpoint can't be reached, or did not answer in time"
    )


@contextmanager
def _quiet_apprise() -> Iterator[list[str]]:
    """Keep what Apprise logs to ourselves: it may name parts of a URL."""
    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    library, collector = logging.getLogger("apprise"), Collector(logging.WARNING)
    was_propagating = library.propagate
    library.addHandler(collector)
    library.propagate = False
    try:
        yield said
    finally:
        library.propagate = was_propagating
        library.removeHandler(collector)
