"""Which of the four KPIs of a site has what it is made of, before anything runs.

What belongs here: what reference data declare and what has landed, held against `kpi_inputs` of
`dbt_project.yml`. What does not: whether what landed is whole and right, which only a build can
tell (`kpi_gaps`).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.reference import Reference, project
from pipelines.reference.contracts.grid import GridConnection, SupplyTariff
from pipelines.reference.contracts.service import HpcAllocation
from pipelines.reference.model import Kind
from pipelines.reference.sites import Site

Says = Callable[[Reference, Site], bool]


def _of(reference: Reference, site: Site, kind: type[Kind]) -> list[Kind]:
    return [contract for contract in reference.of_kind(kind) if contract.site_id == site.site_id]


def _roles(reference: Reference, site: Site) -> set[str]:
    return {meter.role for meter in reference.meters if meter.site_id == site.site_id}


def _currencies(reference: Reference, site: Site) -> set[str]:
    contracts = [one for one in reference.contracts if one.site_id == site.site_id]
    return {site.currency_code, *(one.currency_code for one in contracts)}


def _has_gpus(_: Reference, site: Site) -> bool:
    return any(group.gpus_per_node for group in site.node_groups)


def _has_factors(reference: Reference, site: Site) -> bool:
    """Whether what its own plants generate from has a direct factor and one of the basis."""
    known = {
        (factor.energy_source, factor.basis)
        for factor in reference.emission_factors
        if factor.kind == "production_type" and not factor.is_marginal
    }
    return all(
        (meter.energy_source, basis) in known
        for meter in reference.meters
        if meter.site_id == site.site_id and meter.role == "onsite_generation"
        for basis in ("direct", reference.organization.emission_factor_basis)
    )


def _always(_: Reference, __: Site) -> bool:
    return True


def _never(_: Reference, __: Site) -> bool:
    return False


NEEDED: Mapping[str, Says] = {
    "other_meters": lambda reference, site: bool(
        _roles(reference, site) - {"grid_import", "ppa_generation"}
    ),
    "battery_samples": lambda _, site: bool(site.batteries),
    # What a build alone can tell: how far back readings and stocks go.
    "battery_stock": _never,
    "demand_history": _never,
    "market_price": lambda reference, site: any(
        terms.price_basis == "spot_plus"
        for tariff in _of(reference, site, SupplyTariff)
        for terms in tariff.terms
    ),
    "emission_factors": lambda reference, site: "onsite_generation" in _roles(reference, site),
    "fx_rate": lambda reference, site: (
        _currencies(reference, site) != {reference.organization.reporting_currency}
    ),
}
"""Whether a site needs an input that says `needed_where`."""

DECLARED: Mapping[str, Says] = {
    "site_terms": lambda _, site: bool(site.terms),
    "site_meter": lambda reference, site: "grid_import" in _roles(reference, site),
    "other_meters": _always,
    "battery_samples": _always,
    "battery_stock": _always,
    "capacity_plan": lambda reference, site: any(
        one.site_id == site.site_id for one in reference.capacity_plan.commitments
    ),
    "node_groups": _has_gpus,
    "supply_tariff": lambda reference, site: bool(_of(reference, site, SupplyTariff)),
    "market_price": lambda _, site: None not in (site.bidding_zone, site.price_market),
    "grid_connection": lambda reference, site: bool(_of(reference, site, GridConnection)),
    "demand_history": _always,
    "hpc_allocation": lambda reference, site: (
        bool(_of(reference, site, HpcAllocation)) and _has_gpus(reference, site)
    ),
    "fx_rate": lambda reference, site: (
        _currencies(reference, site)
        <= {reference.organization.reporting_currency, *reference.fx_rates["currency_code"]}
    ),
    "cloud_bill": _always,
    "grid_carbon": lambda _, site: site.carbon_zone is not None,
    "emission_factors": _has_factors,
    "telemetry": _has_gpus,
    "jobs": lambda _, site: bool(site.clusters),
}
"""Whether reference data declare an input of a site."""

SUPPLIED_BY = {"grid_import", "facility_total", "it_load"}
STANDS_IN: Mapping[tuple[str, str], Says] = dict.fromkeys(
    [("site_meter", "effective_availability_ratio"), ("site_meter", "incident_count")],
    lambda reference, site: bool(SUPPLIED_BY & _roles(reference, site)),
)
"""Where a KPI takes something else in place of an input: that something was drawn tells that the
connection was there (`fct_supply_capacity`)."""


@dataclass(frozen=True)
class Lack:
    """An input that a site has not got: not declared, or nothing of it has landed."""

    name: str
    is_declared: bool
    where: str
    """What declares it, or the folders of landing that bring it."""
    without: str | None
    """In what the KPI is less well known without it; None where it is not known at all."""


@dataclass(frozen=True)
class Kpi:
    """A KPI of a site, and the inputs that it lacks."""

    name: str
    is_of_venue: bool
    """Whether there is such a figure of this kind of venue."""
    lacks: tuple[Lack, ...]

    @property
    def is_ready(self) -> bool:
        """Whether it will be known once everything that has landed is built."""
        return self.is_of_venue and all(lack.without is not None for lack in self.lacks)


def kpis_of_sites(reference: Reference, formats: Collection[str]) -> dict[str, list[Kpi]]:
    """The KPIs that head the pack, by site.

    Args:
        reference: What is declared.
        formats: Landing formats of which something is there or loaded.
    """
    return {
        site.site_id: [
            Kpi(
                name,
                any(site.venue_kind in one["venue_kinds"] for one in _inputs(kpi_id)),
                tuple(_lacks(reference, site, formats, kpi_id)),
            )
            for kpi_id, name in project.headline_kpis().items()
        ]
        for site in reference.sites
    }


def landed(landing: Path) -> set[str]:
    """The formats of which a file lies in landing."""
    folders = landing.iterdir() if landing.is_dir() else ()
    return {folder.name for folder in folders if any(path.is_file() for path in folder.rglob("*"))}


def _inputs(kpi_id: str) -> Iterator[dict[str, Any]]:
    return (one for one in project.kpi_inputs() if kpi_id in one["kpi_ids"])


def _lacks(
    reference: Reference, site: Site, formats: Collection[str], kpi_id: str
) -> Iterator[Lack]:
    told: set[str] = set()
    for one in _inputs(kpi_id):
        input_id, brought_by = one["input_id"], one["landing_formats"]
        is_needed = "needed_where" not in one or NEEDED[input_id](reference, site)
        if site.venue_kind not in one["venue_kinds"] or not is_needed:
            continue
        without = one.get("without")
        is_declared = STANDS_IN.get((input_id, kpi_id), DECLARED[input_id])(reference, site)
        is_landed = not brought_by or bool({*brought_by} & {*formats})
        folders = ", ".join(f"landing/{name}" for name in brought_by)
        if one.get("is_either"):
            if not is_declared and not is_landed:
                yield Lack(one["name"], False, f"{one['reference_field']}, or {folders}", without)
        elif not is_declared:
            yield Lack(one["name"], False, one["reference_field"], without)
        elif not is_landed and not {*brought_by} <= told:
            # Files of one kind bring several inputs: that there are none is told once.
            told |= {*brought_by}
            yield Lack(one["name"], True, folders, without)
