"""Reading a reference folder, right as a whole or not at all.

What belongs here: which files there are, and the exchange rates, the one file that is CSV. What
does not: what the files say of each other (`checks.py`).
"""

from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

from pipelines.reference.checks import CrossChecks
from pipelines.reference.contracts import Contract
from pipelines.reference.documents import Mistakes, Reader, ReferenceErrors
from pipelines.reference.factors import EmissionFactors
from pipelines.reference.model import Reference
from pipelines.reference.organization import CapacityPlan, Organization, Targets, Workloads
from pipelines.reference.sites import GpuModels, Meters, Site
from pipelines.reference.tariffs import Tariffs


def load(reference_dir: Path) -> Reference:
    """Read and check a reference folder.

    What one file says about another is checked once every file is right by itself.

    Raises:
        ReferenceErrors: Every mistake found; nothing is loaded.
    """
    mistakes = Mistakes()
    read = Reader(reference_dir, mistakes)
    organization = read.one("organization.yml", Organization)
    gpu_models = read.one("gpu_models.yml", GpuModels)
    sites = read.each("sites", TypeAdapter(Site))
    meters = read.one("meters.yml", Meters)
    contracts = read.each("contracts", TypeAdapter(Contract))
    tariffs = read.one("tariffs.yml", Tariffs)
    workloads = read.one("workloads.yml", Workloads)
    capacity_plan = read.one("capacity_plan.yml", CapacityPlan)
    factors = read.one("emission_factors.yml", EmissionFactors)
    targets = read.one("targets.yml", Targets)
    fx_rates = _read_fx_rates(reference_dir / "fx_rates.csv", mistakes)
    if mistakes.causes:
        raise ReferenceErrors(mistakes.causes)
    reference = Reference(
        organization=organization,
        gpu_models=gpu_models.gpu_models,
        sites=sites,
        meters=meters.meters,
        contracts=contracts,
        tariffs=tariffs.tariffs,
        workloads=workloads.workloads,
        rules=workloads.rules,
        capacity_plan=capacity_plan,
        emission_factors=factors.factors,
        targets=targets.targets,
        fx_rates=fx_rates,
    )
    CrossChecks(reference, read.documents, mistakes).run()
    if mistakes.causes:
        raise ReferenceErrors(mistakes.causes)
    return reference


def _read_fx_rates(path: Path, mistakes: Mistakes) -> pl.DataFrame:
    schema = {
        "rate_date": pl.Date(),
        "currency_code": pl.String(),
        "rate_to_reporting": pl.Float64(),
    }
    empty = pl.DataFrame(schema=schema)
    if not path.is_file():
        mistakes.causes.append(
            f"{path.name}: not found: add rate_date,currency_code,rate_to_reporting"
        )
        return empty
    try:
        text = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        mistakes.causes.append(f"{path.name}: is not CSV: {str(error).splitlines()[0]}")
        return empty
    if text.columns != list(schema):
        mistakes.causes.append(
            f"{path.name}:1: found columns {', '.join(text.columns)}, expected {', '.join(schema)}"
        )
        return empty
    rates = text.select(
        pl.col("rate_date").str.to_date(strict=False),
        "currency_code",
        pl.col("rate_to_reporting").cast(pl.Float64, strict=False),
    )
    if text.is_empty():
        mistakes.causes.append(f"{path.name}: found no rates, expected one for every day")
        return empty
    rate = pl.col("rate_to_reporting")
    is_wrong = (
        pl.any_horizontal(pl.all().is_null())
        | ~(rate.is_finite() & (rate > 0))
        | ~pl.struct("rate_date", "currency_code").is_first_distinct()
    )
    wrong = rates.with_row_index("line", offset=2).with_columns(
        found=text.select(pl.concat_str(pl.all(), separator=",", ignore_nulls=True)).to_series()
    )
    for line, found in wrong.filter(is_wrong).select("line", "found").iter_rows():
        mistakes.causes.append(
            f"{path.name}:{line}: found {found!r}, expected a date, a currency not given before"
            " for it, and a rate above 0"
        )
    return rates
