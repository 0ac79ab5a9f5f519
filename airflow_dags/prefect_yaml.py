"""The deployments that `prefect.yaml` lists, as far as both orchestrators need to know them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
PREFECT_YAML = PROJECT_ROOT / "prefect.yaml"


class DeploymentError(ValueError):
    """An entry of `prefect.yaml` can't be read; the message names the file, the deployment and the key."""


class Schedule(BaseModel):
    """One entry of a deployment's `schedules`."""

    model_config = ConfigDict(extra="forbid")

    cron: str | None = None
    interval: float | None = None
    """Seconds."""
    anchor_date: Any = None
    rrule: str | None = None
    timezone: str | None = None
    day_or: bool = True
    active: bool = True
    slug: str | None = None
    parameters: dict[str, Any] = {}
    max_scheduled_runs: int | None = None
    catchup: bool | None = None


class Deployment(BaseModel):
    """What both orchestrators need to know of an entry of `deployments`. Prefect's other keys are Prefect's alone."""

    model_config = ConfigDict(extra="ignore")

    name: str
    entrypoint: str
    """`path/of/file.py:name_of_the_flow`, the path relative to the folder of `prefect.yaml`."""
    description: str | None = None
    parameters: dict[str, Any] = {}
    tags: list[str] = []
    schedules: list[Schedule] = []
    paused: bool = False
    concurrency_limit: int | dict[str, Any] | None = None
    triggers: list[Any] = []


def read_deployments(path: Path = PREFECT_YAML) -> list[Deployment]:
    """The deployments of a `prefect.yaml`, in its order.

    Raises:
        DeploymentError: the file is missing, is no YAML, or an entry lacks something or has it in a wrong type.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise DeploymentError(f"{path}: not found; it lists the deployments that become DAGs") from error
    except yaml.YAMLError as error:
        raise DeploymentError(f"{path}: is not valid YAML: {error}") from error
    deployments = []
    for position, entry in enumerate(content.get("deployments") or []):
        given = {key: value for key, value in entry.items() if value is not None}
        if "schedule" in given:
            given["schedules"] = [given.pop("schedule")]
        try:
            deployments.append(Deployment.model_validate(given))
        except ValidationError as error:
            name = entry.get("name", f"number {position + 1}")
            raise DeploymentError(f"{path}: deployment {name!r}: {error}") from error
    return deployments
