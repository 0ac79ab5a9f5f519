"""`customer-analytics incidents …`: look at incidents and decide about them."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.padding import Padding

from flows.cli_output import OutputFormat, configured_settings, explained, out, write_rows

app = typer.Typer(
    help="What people should know of: strange order lines and days, lost stream records, missing rates, lag.",
    no_args_is_help=True,
)

ID_SHOWN = 12
"""Characters of an incident's id in a list."""

IncidentId = Annotated[
    str, typer.Argument(metavar="INCIDENT", help="Its id, or as much of the beginning as no other has.")
]
Note = Annotated[str, typer.Option("--note", help="Why; kept with the incident.")]
By = Annotated[str, typer.Option("--by", help="Who decides; by default this machine's user.", show_default=False)]


@app.command("list")
@explained
def list_incidents(
    state: Annotated[str, typer.Option(help="Only in this state: open, acknowledged, resolved, dismissed.")] = "",
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write it.")] = OutputFormat.table,
    most: Annotated[int, typer.Option("--most", min=1, help="Incidents shown.")] = 100,
) -> None:
    """List incidents, seen last first."""
    from flows.connections import open_session
    from warehouse.session import statement

    with open_session(configured_settings()) as session:
        rows = session.rows(statement("list_incidents"), [state, state, most])
    if output is not OutputFormat.table or not rows:
        write_rows(rows, output)
        return
    for row in rows:  # sentences: a column would be too narrow for them
        out.print(
            f"{row['incident'][:ID_SHOWN]}  {row['severity']}, {row['state']}: {row['kind']} of {row['subject']}, seen "
            f"{row['seen']} times, last {row['last_seen_at']:%Y-%m-%d %H:%M} UTC",
            markup=False,
        )
        out.print(Padding(escape(row["reason"]), (0, 0, 1, 4)), soft_wrap=False)


@app.command("show")
@explained
def show_incident(
    incident_id: IncidentId,
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write it.")] = OutputFormat.table,
    most: Annotated[int, typer.Option("--most", min=1, help="Findings shown.")] = 20,
) -> None:
    """Show one incident with the findings under it, strangest first."""
    from flows.connections import open_session
    from flows.steps.deciding import find_incident
    from warehouse.session import statement

    with open_session(configured_settings()) as session:
        incident = find_incident(session, incident_id)
        findings = session.rows(statement("findings_of_incident"), [incident["incident_id"], most])
        [gate] = session.rows(statement("held_lines_of_incident"), [incident["incident_id"]])
    if output is OutputFormat.json:
        write_rows([{**incident, "held_lines": gate["held"], "shown_findings": findings}], output)
        return
    if output is OutputFormat.csv:
        write_rows(findings, output)
        return
    out.print(
        f"{incident['incident_id']}  {incident['severity']}, {incident['state']}"
        + (", confirmed" if incident["is_confirmed"] else "")
        + f": {incident['kind']} of {incident['subject']}",
        markup=False,
    )
    out.print(Padding(escape(incident["reason"]), (0, 0, 0, 4)), soft_wrap=False)
    for name, value in _details(incident, gate):
        out.print(Padding(f"[dim]{name}[/] {escape(value)}", (0, 0, 0, 4)), soft_wrap=False)
    if findings:
        out.print()
        write_rows(findings, output)
        if (incident["findings"] or 0) > len(findings):
            out.print(f"… and {incident['findings'] - len(findings):,} more (--most)")


def _details(incident: dict[str, Any], gate: dict[str, Any]) -> list[tuple[str, str]]:
    details = []
    if incident["what_to_do"]:
        details.append(("what to do:", str(incident["what_to_do"])))
    if incident["started_at"]:
        details.append(
            ("orders of:", f"{incident['started_at']:%Y-%m-%d %H:%M} to {incident['ended_at']:%Y-%m-%d %H:%M} UTC")
        )
    if incident["money_at_risk"] is not None:
        details.append(("money at risk:", f"{incident['money_at_risk']:,.2f} {incident['currency'] or ''}".rstrip()))
    if gate["held"] or gate["released"]:
        details.append(("held out of the marts:", f"{gate['held']:,} order lines; {gate['released']:,} released"))
    if incident["decided_at"]:
        note = f": {incident['decision_note']}" if incident["decision_note"] else ""
        details.append(("decided:", f"{incident['decided_at']:%Y-%m-%d %H:%M} UTC by {incident['decided_by']}{note}"))
    return details


@app.command("acknowledge")
@explained
def acknowledge(incident_id: IncidentId, note: Note = "", by: By = "") -> None:
    """Say that somebody looks after it: it is not told again unless it becomes worse."""
    _decide(incident_id, "acknowledge", by, note)


@app.command("confirm")
@explained
def confirm(incident_id: IncidentId, note: Note = "", by: By = "") -> None:
    """Say that it is wrong indeed: its order lines leave what detectors learn from."""
    _decide(incident_id, "confirm", by, note)


@app.command("dismiss")
@explained
def dismiss(incident_id: IncidentId, note: Note = "", by: By = "") -> None:
    """Say that it is right: such prices and values are expected from now on."""
    _decide(incident_id, "dismiss", by, note)


@app.command("resolve")
@explained
def resolve(incident_id: IncidentId, note: Note = "", by: By = "") -> None:
    """Say that its cause is gone; if it comes back, the incident is open again."""
    _decide(incident_id, "resolve", by, note)


@app.command("release")
@explained
def release(incident_id: IncidentId, by: By = "") -> None:
    """Let the order lines that it holds into the business marts, at the next run."""
    from flows.connections import open_session
    from flows.steps import gate
    from flows.steps.deciding import find_incident

    with open_session(configured_settings()) as session:
        incident = find_incident(session, incident_id)
        lines = gate.release(session, incident["incident_id"], by or getpass.getuser())
    shown = incident["incident_id"][:ID_SHOWN]
    if lines:
        out.print(
            f"{shown}  {lines:,} order line{'' if lines == 1 else 's'} released; the next run puts them into the marts"
        )
    else:
        out.print(f"{shown}  holds no order line")


def _decide(incident_id: str, decision: str, by: str, note: str) -> None:
    from flows.connections import open_session
    from flows.steps.deciding import decide

    with open_session(configured_settings()) as session:
        incident = decide(session, incident_id, decision, by or getpass.getuser(), note)
    out.print(
        f"{incident['incident_id'][:ID_SHOWN]}  {incident['state']}"
        + (", confirmed" if incident["is_confirmed"] else "")
        + f": {incident['kind']} of {incident['subject']}",
        markup=False,
    )
