"""Airflow reads its home when it is imported, which pytest does while collecting: it gets a throw-away one here."""

from __future__ import annotations

import os
import tempfile

_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "false"
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{_HOME.name}/airflow.db"
os.environ["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] = f"{_HOME.name}/logs"
