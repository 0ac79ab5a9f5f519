"""The documentation of the warehouse: one page with every source, model, metric and exposure, and the lineage between.

dbt makes it from the project (manifest) and from what the warehouse has (catalog). The page holds both, so it can be
opened as a file too, and it asks nothing of the internet.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flows.connections import invoke_dbt, open_session
from flows.settings import Settings
from flows.steps.transformation import dbt_variables

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PAGE = "index.html"
ARTIFACTS = {"static_index.html": PAGE, "manifest.json": "manifest.json", "catalog.json": "catalog.json"}
"""What dbt writes → its name in the documentation's folder."""
REQUEST_SECONDS = 10.0
"""A browser that says nothing for so long loses its connection."""
STOP_CHECK_SECONDS = 0.2


class DocumentationError(RuntimeError):
    """The documentation could not be built or served; the message says why and what to do."""


@dataclass(frozen=True)
class Documentation:
    """What was built.

    `folder` holds the page, the manifest and the catalog. `relations` counts the models, seeds and source tables whose
    columns the catalog has; `missing` names those the warehouse does not have, sorted.
    """

    folder: Path
    relations: int
    missing: tuple[str, ...]

    @property
    def page(self) -> Path:
        """The page, which can also be opened as a file."""
        return self.folder / PAGE


def documentation_folder(settings: Settings) -> Path:
    """Where the documentation of these settings is built."""
    return settings.home / "docs"


def build_documentation(settings: Settings) -> Documentation:
    """Build the documentation into `<home>/docs`; what was built before stays until this has succeeded.

    Raises:
        DocumentationError: the warehouse lacks warehouse/ddl, or dbt could not read it; the message says what to do.
        flows.connections.DbtError: dbt could not run at all.
    """
    _require_migrated(settings)
    target = settings.home / "dbt" / "target"
    result = invoke_dbt(settings, ["docs", "generate", "--static"], dbt_variables(settings))
    problems = _problems(result)
    if problems:
        raise DocumentationError(
            f"dbt docs generate: {'; '.join(problems)}; its log is {settings.home / 'logs' / 'dbt' / 'dbt.log'}"
        )
    manifest, catalog = (json.loads((target / name).read_text("utf-8")) for name in ("manifest.json", "catalog.json"))
    found = {*catalog["nodes"], *catalog["sources"]}
    folder = documentation_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    for made, name in ARTIFACTS.items():
        shutil.copyfile(target / made, folder / f".{name}")
        os.replace(folder / f".{name}", folder / name)
    missing = sorted(name for identifier, name in expected_relations(manifest).items() if identifier not in found)
    return Documentation(folder, len(found), tuple(missing))


def expected_relations(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Unique id → SCHEMA.NAME of every model, seed and source table that the warehouse should have."""
    nodes = [
        (node, node["alias"])
        for node in manifest["nodes"].values()
        if node["resource_type"] in ("model", "seed") and node["config"]["materialized"] != "ephemeral"
    ]
    sources = [(source, source["identifier"]) for source in manifest["sources"].values()]
    return {node["unique_id"]: f"{node['schema']}.{name}".upper() for node, name in nodes + sources}


def _require_migrated(settings: Settings) -> None:
    from warehouse.migrations import pending

    with open_session(settings) as session:
        waiting = pending(session, settings.database)
    if waiting:
        raise DocumentationError(
            f"the warehouse does not have {waiting[0].name} of warehouse/ddl yet, so there are no tables to document; "
            "run `customer-analytics run` (or `customer-analytics migrate`, for the tables alone) first"
        )


def _problems(result: Any) -> list[str]:  # noqa: ANN401 - dbt's own result, of another type when it failed early
    if result is None:
        return ["it ended without a result"]
    compiled = getattr(result, "_compile_results", None) or getattr(result, "results", None) or ()
    failed = [f"{item.node.name}: {item.message}" for item in compiled if str(item.status) == "error"]
    return failed or [str(error) for error in getattr(result, "errors", None) or ()]


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve a folder on this machine alone, until the block ends.

    Args:
        folder: what `build_documentation` makes, now or later.
        port: 0 takes one that is free.

    Yields:
        The page's address.

    Raises:
        DocumentationError: the port can't be had.
    """

    class Handler(SimpleHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - socketserver's own
            super().__init__(*arguments, directory=str(folder))

        def list_directory(self, path: Any) -> None:  # noqa: ANN401 - of the base class
            self.send_error(404, "No such page")

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: ANN401 - of the base class
            logger.debug("docs: " + format, *arguments)

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise DocumentationError(
            f"port {port} of {HOST} can't be had ({error.strerror}); choose another one with --port, or leave it out "
            "for one that is free"
        ) from None
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": STOP_CHECK_SECONDS}, name="docs", daemon=True
    )
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=REQUEST_SECONDS)
