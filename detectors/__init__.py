"""Detection of wrong prices and quantities in order lines: pyarrow tables in, pyarrow tables out."""

from detectors.order_model import FINDINGS_SCHEMA, SEVERITIES, NotFittedError, OrderAnomalyModel
from detectors.series_model import SERIES_FINDINGS_SCHEMA, SeriesAnomalyModel

__all__ = [
    "FINDINGS_SCHEMA",
    "SERIES_FINDINGS_SCHEMA",
    "SEVERITIES",
    "NotFittedError",
    "OrderAnomalyModel",
    "SeriesAnomalyModel",
]
