"""One way out for alerts: the log always, and every Apprise URL that is set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from flows.results import RunIdentity

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """One message a person can act on."""

    title: str
    body: str
    is_failure: bool

    @classmethod
    def of_run(
        cls,
        run: RunIdentity,
        counts: Sequence[Mapping[str, Any]],
        gravest: Sequence[Mapping[str, Any]],
        broken: Sequence[Mapping[str, Any]],
    ) -> Self | None:
        """The alert of a run, or None where nothing needs a person.

        Args:
            run: the run.
            counts: findings by severity (`severity, findings`).
            gravest: the gravest findings of severity warning or critical, worst first (`severity, reason`).
            broken: failed reconciliations and tests (`name, detail`).
        """
        by_severity = {row["severity"]: int(row["findings"]) for row in counts}
        worth = by_severity.get("critical", 0) + by_severity.get("warning", 0)
        if not worth and not broken:
            return None
        lines = [f"FAILED {row['name']}: {row['detail']}" for row in broken]
        lines += [f"{row['severity']}: {row['reason']}" for row in gravest]
        if worth > len(gravest):
            lines.append(f"… and {worth - len(gravest)} more findings in QUALITY.ANOMALIES, run_id {run.run_id}")
        parts = [f"{len(broken)} failed checks"] if broken else []
        parts += [f"{count} {name}" for name, count in sorted(by_severity.items()) if name != "note"]
        return cls(
            title=f"Customer analytics, {run.source}: {', '.join(parts)}",
            body="\n".join(lines),
            is_failure=bool(broken),
        )


def deliver(alert: Alert, urls: Sequence[str]) -> int:
    """Write the alert to the log and send it to every URL; returns how many URLs did not take it.

    The log gets the title as a warning (an error for a failure), so that it is seen on a terminal too, and the findings
    as information.

    An endpoint that fails is logged (without its address, which may hold a secret) and raises nothing.
    """
    logger.log(logging.ERROR if alert.is_failure else logging.WARNING, "%s", alert.title)
    logger.info("%s", alert.body)
    if not urls:
        return 0
    import apprise

    undelivered = 0
    for position, url in enumerate(urls, start=1):
        channel = apprise.Apprise()
        kind = apprise.NotifyType.FAILURE if alert.is_failure else apprise.NotifyType.WARNING
        if not channel.add(url) or not channel.notify(title=alert.title, body=alert.body, notify_type=kind):
            undelivered += 1
            logger.error("alert channel %d of %d did not take the alert; check its URL", position, len(urls))
    return undelivered
