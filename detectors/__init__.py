"""Detection of wrong prices and quantities in order lines: pyarrow tables in, pyarrow tables out."""

from detectors.order_model import FINDINGS_SCHEMA, SEVERITIES, NotFittedError, OrderAnomalyModel

__all__ = ["FINDINGS_SCHEMA", "SEVERITIES", "NotFittedError", "OrderAnomalyModel"]
