"""What steps hand to each other: references and counts, never rows. All of it travels as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field


class Result(BaseModel):
    """Base of all results: unchangeable, strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunIdentity(Result):
    """Who a run is; decided once, passed to every step, the same on every orchestrator."""

    run_id: str
    flow: str
    """The flow that began the run; its last step closes it."""
    source: str
    landing: str
    """Folder or `s3://` URL in which the source's files land."""
    started_at: datetime
    """UTC; the `_ingested_at` of every row the run lands."""

    @property
    def ingested_at(self) -> datetime:
        """`started_at` as the warehouse stores it: UTC without offset."""
        return self.started_at.astimezone(UTC).replace(tzinfo=None)


class FileGroup(Result):
    """Files that one task stages. Which files they are is in the ledger (OPS.FILES)."""

    number: int
    files: int
    size_bytes: int


class StagedGroup(Result):
    """What became of a group's files."""

    number: int
    files_staged: int
    files_refused: int
    files_empty: int
    rows_staged: int
    rows_quarantined: int


class LoadSummary(Result):
    """What a run brought into RAW."""

    files_loaded: int
    files_duplicate: int
    rows_loaded: int


class StreamSummary(Result):
    """What a run read of a stream."""

    transport: str
    stream: str
    records: int
    """Read and loaded, dead letters among them."""
    events: int
    dead_letters: int
    batches: int
    """Micro-batches, one a partition."""
    incidents: int
    lag_records: int | None
    """Records that still waited at the end; None where the transport can't tell."""


class LayerSummary(Result):
    """What dbt did in one layer."""

    layer: str
    models: int
    seconds: float


class TestSummary(Result):
    """Results of the dbt tests of a run."""

    __test__ = False  # not a test, whatever pytest makes of the name

    passed: int
    warned: int
    failed: int
    failures: list[str]
    """Names of failed tests with dbt's message, at most twenty."""


class ReconciliationSummary(Result):
    """Whether everything that came in is where it belongs."""

    checks: int
    failures: list[str]
    """Each failed check with what was expected and found."""
    lines_without_exchange_rate: dict[str, int] = Field(default_factory=dict)
    """Order lines of the source that have no amount in the reporting currency, by their own."""


class AnomalySummary(Result):
    """What the detectors found in the order lines that are new to them."""

    rows_scored: int
    findings: int
    critical: int
    money_at_risk: dict[str, Decimal]
    """By currency."""
    notes: list[str]
    """Layers that were off, and why."""


class HoldSummary(Result):
    """What the gate keeps out of the business marts."""

    lines_held: int
    """Order lines of the source."""
    changes: int
    """Lines held or released, of all sources, that this run put into effect."""


class AlertSummary(Result):
    """Where alerts went."""

    alerts: int
    channels: int
    undelivered: int


class ReportLocation(Result):
    """Where the report is."""

    path: str


class RunSummary(Result):
    """How a run ended, as stored in OPS.RUNS and shown by the CLI, Prefect and the report."""

    run_id: str
    state: str
    """`completed`, or `failed` by the verdict of the quality checks."""
    files: dict[str, int]
    """Files by state."""
    rows_loaded: int
    rows_quarantined: int
    files_refused: int
    reconciliation_failures: list[str]
    test_failures: list[str]
    lines_without_exchange_rate: dict[str, int] = Field(default_factory=dict)
    """Order lines by currency."""
    anomalies: int
    lines_held: int = 0
    """Order lines that the business marts leave out."""
    report: str

    @property
    def refused(self) -> bool:
        """Whether anything of what came in went to quarantine."""
        return bool(self.rows_quarantined or self.files_refused)

    @property
    def without_exchange_rate(self) -> str:
        """`12 order lines in KWD`, or empty where every amount is converted."""
        return ", ".join(
            f"{lines:,} order line{'' if lines == 1 else 's'} in {currency}"
            for currency, lines in sorted(self.lines_without_exchange_rate.items())
        )

    def markdown(self) -> str:
        """The summary as people read it."""
        files = ", ".join(f"{count} {state}" for state, count in sorted(self.files.items())) or "none new"
        lines = [
            f"## Run {self.run_id}: {self.state}",
            f"- files: {files}",
            f"- rows loaded: {self.rows_loaded:,}",
            f"- in quarantine: {self.rows_quarantined:,} records, {self.files_refused} files",
            f"- anomalies: {self.anomalies}, order lines held out of the marts: {self.lines_held:,}",
            f"- reconciliation: {'; '.join(self.reconciliation_failures) or 'everything ties'}",
            f"- dbt tests: {'; '.join(self.test_failures) or 'all passed'}",
            *([f"- without an exchange rate: {self.without_exchange_rate}"] if self.without_exchange_rate else []),
            f"- report: {self.report}",
        ]
        return "\n".join(lines)
