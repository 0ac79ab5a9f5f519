"""The pipeline: settings, steps, tasks, flows and the command line.

`from flows import customer_analytics` gives the flow. It is imported when asked for: steps stay free of Prefect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.pipeline import customer_analytics, ingest_batch, ingest_stream, quality, transform

__all__ = ["customer_analytics", "ingest_batch", "ingest_stream", "quality", "transform"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a flow
    if name in __all__:
        from flows import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'flows' has no attribute {name!r}; it has the flows {', '.join(__all__)}")
