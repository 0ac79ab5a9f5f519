"""Prefect flows as Airflow DAGs: `adapter` makes them, `plan` reads flows, `customer_analytics.py` is the DAG file.

Airflow parses the DAG file again and again, so it must stay light. Prefect imports pandas (and with it pyarrow), if it
is installed, only to make cache keys of data frames; caches are refused here, so Prefect is imported without it. What
imports pandas later gets it as usual.
"""

from __future__ import annotations

import os
import sys

# Prefect reports its first import to its maker when it runs in a terminal. Parsing a DAG must not use the network.
os.environ.setdefault("DO_NOT_TRACK", "1")

if "prefect" not in sys.modules and "pandas" not in sys.modules:
    # None makes `import pandas` raise ImportError.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        import prefect.flows
        import prefect.tasks  # noqa: F401 - imported for the effect
    finally:
        del sys.modules["pandas"]
