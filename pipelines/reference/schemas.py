"""JSON Schemas of the reference files, by which editors explain, complete and check them.

What belongs here: which file has which model, and the schema of each (2020-12), made from the
models. What does not: the checks themselves; a schema knows no rule over several fields or files.

They lie in `.schemas/` of a reference folder, so that the first line of each file can name its own
by a relative path wherever the folder is.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipelines.reference.contracts import Contract
from pipelines.reference.costs import SiteCosts
from pipelines.reference.decisions import Decision
from pipelines.reference.documents import SCHEMAS
from pipelines.reference.expectations import schema_of
from pipelines.reference.factors import EmissionFactors
from pipelines.reference.mappings import Mappings
from pipelines.reference.organization import CapacityPlan, Organization, Targets, Workloads
from pipelines.reference.sites import GpuModels, Meters, Site
from pipelines.reference.sources import Sources

MODELS: Mapping[str, Any] = {
    "organization": Organization,
    "gpu_models": GpuModels,
    "sites": Site,
    "meters": Meters,
    "contracts": Contract,
    "workloads": Workloads,
    "capacity_plan": CapacityPlan,
    "emission_factors": EmissionFactors,
    "targets": Targets,
    "site_costs": SiteCosts,
    "decisions": Decision,
    "mappings": Mappings,
    "sources": Sources,
}


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of each file, or of the files of a folder, by its name without ending."""
    return {name: schema_of(TypeAdapter(model)) for name, model in MODELS.items()}


def write_schemas(reference_dir: Path) -> list[Path]:
    """Write the schemas into `.schemas/` of a reference folder; the files written."""
    folder = reference_dir / SCHEMAS
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.json" for name in schemas()]
    for file, schema in zip(files, schemas().values(), strict=True):
        file.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return files


def first_line(name: str) -> str:
    """The line by which an editor finds the schema of a file, such as `sites/berlin.yml`."""
    folder, _, _ = name.rpartition("/")
    path = f"../{SCHEMAS}/{folder}" if folder else f"{SCHEMAS}/{name.removesuffix('.yml')}"
    return f"# yaml-language-server: $schema={path}.json"
