"""What may import what, where SQL may stand, and that every SQL file is Snowflake's."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlglot

ROOT = Path(__file__).parent.parent
FREE_OF_ORCHESTRATORS = sorted(
    path
    for folder in ("flows/steps", "flows/sources", "warehouse", "detectors")
    for path in (ROOT / folder).rglob("*.py")
)
ORCHESTRATORS = {"prefect", "airflow", "prefect_aws", "prefect_dbt", "prefect_snowflake"}
SQL_FILES = sorted([*(ROOT / "warehouse" / "ddl").glob("*.sql"), *(ROOT / "warehouse" / "sql").glob("*.sql")])
SQL_WORDS = re.compile(
    r"^\s*(select\s.+\sfrom|insert\s+(into|overwrite)|update\s+\S+\s+set|delete\s+from|merge\s+into|copy\s+into"
    r"|create\s+(or\s+replace\s+)?(table|view|stage|schema)|with\s+\w+\s+as\s*\()",
    re.IGNORECASE | re.DOTALL,
)


def imported_packages(path: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            packages.add(node.module.split(".")[0])
    return packages


@pytest.mark.parametrize("path", FREE_OF_ORCHESTRATORS, ids=lambda path: str(path.relative_to(ROOT)))
def test_steps_warehouse_and_detectors_import_no_orchestrator(path):
    assert not imported_packages(path) & ORCHESTRATORS


def test_importing_every_step_loads_neither_prefect_nor_airflow_nor_heavy_libraries():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "flows" / "steps").glob("*.py"))
    ]
    code = (
        f"import sys\nfor name in {modules!r}: __import__(name)\n"
        "heavy = {'prefect', 'airflow', 'alibi_detect', 'dbt', 'snowflake.connector', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: path.name)
def test_sql_files_parse_as_snowflake(path):
    text = re.sub(r"\$(files|lake_url|integration|source)\b", "'filled in'", path.read_text(encoding="utf-8"))
    text = re.sub(r"\$stage_folder\b", "@raw.lake/folder/", text)
    statements = [statement for statement in sqlglot.parse(text, read="snowflake") if statement is not None]
    assert statements


def test_python_strings_hold_no_sql_beyond_one_liners():
    found = []
    for folder in ("flows", "warehouse", "detectors", "airflow_dags"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.is_relative_to(ROOT / "warehouse" / "local"):
                continue  # its subject is SQL: it translates Snowflake's statements into DuckDB's
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and "\n" in node.value.strip()
                    and SQL_WORDS.match(node.value)
                ):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


def test_every_bound_statement_is_used():
    code = "\n".join(
        path.read_text(encoding="utf-8") for folder in ("flows", "warehouse") for path in (ROOT / folder).rglob("*.py")
    )
    unused = [path.stem for path in (ROOT / "warehouse" / "sql").glob("*.sql") if f'"{path.stem}"' not in code]
    assert not unused


def test_dbt_folder_is_no_package():
    assert not list((ROOT / "dbt").rglob("__init__.py"))
    assert not list(ROOT.glob("*/dbt_*.py"))
