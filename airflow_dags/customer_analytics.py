"""The DAG file: one Airflow DAG for each deployment in `prefect.yaml`, under the deployment's name."""

from __future__ import annotations

import sys
from pathlib import Path

# Airflow puts this folder on the path; the packages are one above, unless the project is installed.
PROJECT_ROOT = str(Path(__file__).resolve().parent.parent)
if PROJECT_ROOT not in sys.path:
    sys.path.insert(1, PROJECT_ROOT)

from airflow_dags.deployments import dags_from_deployments  # noqa: E402 - needs the path above

globals().update(dags_from_deployments())
