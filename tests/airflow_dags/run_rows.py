"""Run rows of `rows.py` on one engine in this process and write what happened: started by test_parity.py.

`python -m tests.airflow_dags.run_rows ENGINE FOLDER ROW…` writes `FOLDER/ENGINE.json`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from flows.engines import Silent, TaskOutcome, run_here_on_prefect, safe_name

DAG_FILE = """
import os
from airflow_dags.adapter import dag_from_flow
from tests.airflow_dags.rows import ROWS
dag = dag_from_flow(ROWS[os.environ["ROW"]].flow)
"""


def main(engine: str, folder: Path, names: list[str]) -> None:
    happened = {}
    for position, name in enumerate(names):
        notes = folder / f"{engine}-{position}.notes"
        os.environ["ROWS_NOTES"] = str(notes)
        if engine == "prefect":
            from tests.airflow_dags.rows import ROWS

            message, tasks = run_here_on_prefect(ROWS[name].flow, ROWS[name].parameters, Silent())
            state = "failed" if message else "completed"
        else:
            state, tasks = on_airflow(name, folder)
        happened[name] = {
            "state": state,
            "tasks": [asdict(task) for task in tasks],
            "notes": sorted(notes.read_text().splitlines()) if notes.exists() else [],
        }
    (folder / f"{engine}.json").write_text(json.dumps(happened))


def on_airflow(name: str, folder: Path) -> tuple[str, list[TaskOutcome]]:
    os.environ["ROW"] = name
    file = folder / "dags" / "rows.py"
    if not file.exists():
        file.parent.mkdir()
        file.write_text(DAG_FILE)
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(file.parent)

    from airflow_dags.run_once import conf_of, load_dag, migrate, run_dag
    from tests.airflow_dags.rows import ROWS

    migrate()
    row = ROWS[name]
    state, tasks = run_dag(load_dag(file, safe_name(row.flow.name)), conf_of(row.flow, row.parameters))
    return "completed" if state == "success" else "failed", tasks


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
