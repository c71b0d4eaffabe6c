"""Reading a reference folder, right as a whole or not at all.

What belongs here: which files there are, and those that are CSV: exchange rates, price indices and
forward prices. What does not: what the files say of each other (`checks.py`).
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

from pipelines.reference.checks import CrossChecks
from pipelines.reference.contracts import Contract
from pipelines.reference.costs import SiteCosts
from pipelines.reference.decisions import Decision
from pipelines.reference.documents import Mistakes, Reader, ReferenceErrors
from pipelines.reference.factors import EmissionFactors
from pipelines.reference.mappings import Mappings
from pipelines.reference.model import Reference
from pipelines.reference.organization import CapacityPlan, Organization, Targets, Workloads
from pipelines.reference.sites import GpuModels, Meters, Site
from pipelines.reference.sources import Sources


def load_organization(reference_dir: Path) -> Organization:
    """Read `organization.yml` alone, for what has to be known though other files have mistakes.

    Raises:
        ReferenceErrors: it has mistakes.
    """
    mistakes = Mistakes()
    organization: Organization = Reader(reference_dir, mistakes).one(
        "organization.yml", Organization
    )
    if mistakes.causes:
        raise ReferenceErrors(mistakes.causes)
    return organization


def load_sources(reference_dir: Path) -> Sources:
    """Read `sources.yml` alone, none where it is not there: pulls need no other file.

    Raises:
        ReferenceErrors: it has mistakes.
    """
    mistakes = Mistakes()
    sources: Sources = Reader(reference_dir, mistakes).optional("sources.yml", Sources)
    if mistakes.causes:
        raise ReferenceErrors(mistakes.causes)
    return sources


def load(reference_dir: Path) -> Reference:
    """Read and check a reference folder.

    Only `organization.yml` and the files of `sites/` have to be there. What one file says about
    another is checked once every file is right by itself.

    Raises:
        ReferenceErrors: Every mistake found; nothing is loaded.
    """
    mistakes = Mistakes()
    read = Reader(reference_dir, mistakes)
    organization = read.one("organization.yml", Organization)
    gpu_models = read.optional("gpu_models.yml", GpuModels)
    sites = read.each("sites", TypeAdapter(Site))
    meters = read.optional("meters.yml", Meters)
    contracts = read.each("contracts", TypeAdapter(Contract))
    workloads = read.optional("workloads.yml", Workloads)
    capacity_plan = read.optional("capacity_plan.yml", CapacityPlan)
    factors = read.optional("emission_factors.yml", EmissionFactors)
    targets = read.optional("targets.yml", Targets)
    site_costs = read.optional("site_costs.yml", SiteCosts)
    decisions = read.each("decisions", TypeAdapter(Decision))
    sources = read.optional("sources.yml", Sources)
    mappings = read.optional("mappings.yml", Mappings)
    fx_rates = _read_fx_rates(reference_dir / "fx_rates.csv", mistakes)
    price_indices = _read_price_indices(reference_dir / "price_indices.csv", mistakes)
    forward_prices = _read_forward_prices(reference_dir / "forward_prices.csv", mistakes)
    read.refuse_others("fx_rates.csv", "price_indices.csv", "forward_prices.csv")
    if mistakes.causes:
        raise ReferenceErrors(mistakes.causes)
    reference = Reference(
        organization=organization,
        gpu_models=gpu_models.gpu_models,
        sites=sites,
        meters=meters.meters,
        contracts=contracts,
        workloads=workloads.workloads,
        rules=workloads.rules,
        capacity_plan=capacity_plan,
        emission_factors=factors.factors,
        targets=targets.targets,
        site_costs=site_costs.costs,
        decisions=decisions,
        sources=sources.sources,
        mappings=mappings,
        price_indices=price_indices,
        forward_prices=forward_prices,
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
    if not path.is_file():
        return pl.DataFrame(schema=schema)
    day = pl.col("rate_date").str.to_date(strict=False)
    expected = "a date, a currency not given before for it, and a rate above 0"
    key = ("rate_date", "currency_code")
    return _read_series(path, schema, day, expected, mistakes, key=key)


def _read_price_indices(path: Path, mistakes: Mistakes) -> pl.DataFrame:
    schema = {"index": pl.String(), "month": pl.Date(), "value": pl.Float64()}
    if not path.is_file():
        return pl.DataFrame(schema=schema)
    expected = "an index, a month as 2026-04 not given before for it, and a value above 0"
    return _read_series(path, schema, _first_day(), expected, mistakes, key=("index", "month"))


def _read_forward_prices(path: Path, mistakes: Mistakes) -> pl.DataFrame:
    schema = {
        "zone": pl.String(),
        "month": pl.Date(),
        "price_per_mwh": pl.Float64(),
        "currency_code": pl.String(),
    }
    if not path.is_file():
        return pl.DataFrame(schema=schema)
    expected = (
        "a zone, a month as 2026-04 not given before for it, a price above 0 and its currency"
    )
    return _read_series(path, schema, _first_day(), expected, mistakes, key=("zone", "month"))


def _first_day() -> pl.Expr:
    return (pl.col("month") + "-01").str.to_date("%Y-%m-%d", strict=False).alias("month")


def _read_series(
    path: Path,
    schema: dict[str, pl.DataType],
    day: pl.Expr,
    expected: str,
    mistakes: Mistakes,
    *,
    key: Sequence[str],
) -> pl.DataFrame:
    """The rows of a CSV file that gives one number above 0 by its key; none with a mistake."""
    empty = pl.DataFrame(schema=schema)
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
    value = pl.col(next(name for name, kind in schema.items() if kind == pl.Float64()))
    series = text.with_columns(day, value.cast(pl.Float64, strict=False))
    is_wrong = (
        pl.any_horizontal(pl.all().is_null())
        | ~(value.is_finite() & (value > 0))
        | ~pl.struct(key).is_first_distinct()
    )
    wrong = series.with_row_index("line", offset=2).with_columns(
        found=text.select(pl.concat_str(pl.all(), separator=",", ignore_nulls=True)).to_series()
    )
    for line, found in wrong.filter(is_wrong).select("line", "found").iter_rows():
        mistakes.causes.append(f"{path.name}:{line}: found {found!r}, expected {expected}")
    return series
