"""`customer-analytics alerts …`: what people were told, and what still waits for its channel."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.padding import Padding

from flows.cli_output import EXIT_FAILED, OutputFormat, configured_settings, explained, out, write_rows

app = typer.Typer(help="What people were told, and what still waits for its channel.", no_args_is_help=True)

ID_SHOWN = 12
"""Characters of an alert's id in a list."""


@app.command("list")
@explained
def list_alerts(
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that no channel took yet.")] = False,
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write it.")] = OutputFormat.table,
    most: Annotated[int, typer.Option("--most", min=1, help="Alerts shown.")] = 20,
) -> None:
    """List alerts, the latest first. A channel is named by a hash of its URL, which may hold a secret."""
    from flows.connections import open_session
    from warehouse.session import statement

    with open_session(configured_settings()) as session:
        rows = session.rows(statement("list_alerts"), [waiting, most])
    if output is not OutputFormat.table or not rows:
        write_rows(rows, output)
        return
    for row in rows:
        fate = (
            f"delivered {row['delivered_at']:%Y-%m-%d %H:%M} UTC"
            if row["delivered_at"]
            else f"waits; tried {row['attempts']} times, next not before {row['next_attempt_at']:%Y-%m-%d %H:%M} UTC"
        )
        out.print(f"{row['alert'][:ID_SHOWN]}  channel {row['channel']}, {fate}: {row['title']}", markup=False)
        if row["last_error"]:
            out.print(Padding(escape(row["last_error"]), (0, 0, 0, 4)), soft_wrap=False)
        if waiting:
            out.print(Padding(escape(row["body"]), (0, 0, 1, 4)), soft_wrap=False)


@app.command("retry")
@explained
def retry_alerts() -> None:
    """Send what waits now, also to channels that are left alone after a failure. Status 1: some of it still waits."""
    from flows.connections import open_session
    from flows.steps.alerting import deliver_spooled
    from warehouse.session import statement

    settings = configured_settings()
    with open_session(settings) as session:
        waiting = int(session.scalar(statement("alert_undelivered")))
        if waiting and not settings.alert_urls:
            raise ValueError(
                f"{waiting} alerts wait, but no channel is set; set CUSTOMER_ANALYTICS_ALERT_URLS to a JSON list of "
                "Apprise URLs"
            )
        sent = deliver_spooled(session, settings, is_forced=True)
        left = int(session.scalar(statement("alert_undelivered")))
    out.print(f"{waiting - left} of {waiting} waiting alerts delivered, in {sent} messages")
    if left:
        raise typer.Exit(EXIT_FAILED)
