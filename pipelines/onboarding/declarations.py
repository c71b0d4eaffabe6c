"""The reference files that answers come to, each with comments on what may be added.

What belongs here: which files, and filling the templates of `templates/`. What does not: what is
asked (`answers.py`), and writing them where a book is (`beginning.py`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pipelines.onboarding.answers import OrganizationAnswers, SiteAnswers, flow_of
from pipelines.reference.schemas import first_line

FACTORS_G_PER_KWH = {
    "solar": (0, 45),
    "wind": (0, 11),
    "hydro": (0, 24),
    "geothermal": (0, 38),
    "biomass": (0, 230),
    "nuclear": (0, 12),
    "coal": (760, 820),
    "gas": (370, 490),
    "oil": (406, 650),
    "unknown": (575, 700),
}
"""Direct and life-cycle CO2e of a kWh by what it is generated from: Electricity Maps' defaults of
2025."""


def _flow(value: Any) -> str:
    """A value as YAML on one line, in quotes where YAML would take it for something else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Within a list, for there a comma needs quotes.
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return text.strip()[1:-1]


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    # What is filled in is YAML, of which the filter quotes every value.
    autoescape=False,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters["yaml"] = _flow


def declarations(answers: OrganizationAnswers) -> dict[str, str]:
    """The text of each reference file by its name below the reference folder."""
    files = dict(_files(answers))
    return {
        name: text if name.endswith(".csv") else f"{first_line(name)}\n{text}"
        for name, text in files.items()
    }


def _files(answers: OrganizationAnswers) -> Iterator[tuple[str, str]]:
    sites = answers.sites
    yield "organization.yml", _render("organization", answers, zones=list(_zones(answers)))
    for site in sites:
        yield f"sites/{site.site_id}.yml", _render("site", answers, site=site)
        yield from _contracts(answers, site)
    for cloud in answers.clouds:
        yield f"sites/{cloud.site_id}.yml", _render("cloud", answers, cloud=cloud)
    if answers.gpu_models:
        yield "gpu_models.yml", _render("gpu_models", answers)
    meters = [(site, meter, flow_of(meter)) for site in sites for meter in site.meters]
    plants = [(site, ppa) for site in sites for ppa in site.ppas if ppa.meter_id is not None]
    if meters or plants:
        yield "meters.yml", _render("meters", answers, meters=meters, plants=plants)
    if any(site.commitment for site in sites):
        yield "capacity_plan.yml", _render("capacity_plan", answers, until=_years_later(answers, 3))
    if any(site.scheduler for site in sites):
        yield "workloads.yml", _render("workloads", answers)
    sources: set[str] = {ppa.energy_source for site in sites for ppa in site.ppas}
    sources |= {meter.energy_source for _, meter, _ in meters if meter.energy_source is not None}
    if sources:
        factors = [(source, *FACTORS_G_PER_KWH[source]) for source in sorted(sources)]
        yield "emission_factors.yml", _render("emission_factors", answers, factors=factors)
    if any(_is_pulled(site) for site in sites):
        yield "sources.yml", _render("sources", answers)
    if answers.exchange_rates:
        yield "fx_rates.csv", _render("fx_rates", answers)


def _contracts(answers: OrganizationAnswers, site: SiteAnswers) -> Iterator[tuple[str, str]]:
    for name, contract in (
        ("grid", site.grid_contract),
        ("supply", site.supply),
        ("allocation", site.allocation),
    ):
        if contract is not None:
            text = _render(name, answers, site=site, contract=contract)
            yield f"contracts/{site.site_id}-{name}.yml", text
    for ppa in site.ppas:
        text = _render("ppa", answers, site=site, contract=ppa)
        yield f"contracts/{ppa.contract_id}.yml", text


def _zones(answers: OrganizationAnswers) -> Iterator[tuple[str, str]]:
    """Zones that sites name, each with what it is a zone of."""
    priced = {site.prices.bidding_zone for site in answers.sites if site.prices is not None}
    told = {site.carbon.carbon_zone for site in answers.sites if site.carbon is not None}
    yield from ((zone, "bidding") for zone in sorted(priced))
    yield from ((zone, "carbon") for zone in sorted(told))


def _is_pulled(site: SiteAnswers) -> bool:
    scheduler, prices, carbon = site.scheduler, site.prices, site.carbon
    return bool(
        site.prometheus_url
        or (scheduler and (scheduler.login_host or scheduler.url))
        or (prices and prices.token_variable)
        or (carbon and carbon.token_variable)
    )


def _years_later(answers: OrganizationAnswers, years: int) -> str:
    return f"{answers.first_day.year + years}-{answers.first_day:%m}"


def _render(name: str, answers: OrganizationAnswers, **values: Any) -> str:
    [file] = Path(__file__).with_name("templates").glob(f"{name}.*")
    known = {"answers": answers, "first_day": answers.first_day, **values}
    return _ENVIRONMENT.get_template(file.name).render(**known)
