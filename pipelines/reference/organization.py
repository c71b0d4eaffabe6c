"""The organization: its zones, what it runs, what it promised and what it aims at.

What belongs here: `organization.yml`, `workloads.yml`, `capacity_plan.yml` and `targets.yml`. What
does not: what stands at one site (`sites.py`).
"""

from datetime import date
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import (
    Amount,
    Basis,
    CountryCode,
    Currency,
    Identifier,
    Model,
    Month,
    TimeZone,
    VenueKind,
)


class Zone(Model):
    """A bidding zone, hub or carbon zone that other files may name."""

    zone: str
    """Code of the zone as its source writes it, such as DE-LU or HB_NORTH."""
    kind: Literal["bidding", "carbon"]
    """bidding: a price is set for it. carbon: a generation mix is published for it."""
    name: str
    """What people call it, such as Germany and Luxembourg."""


class Thresholds(Model):
    """From where on something counts as full, short or held back.

    A connection or battery is full at `full_power_ratio` of the power it can give; IT power is
    short below `full_availability_ratio` of what is committed; GPUs are held back by a power limit
    from `power_capped_ratio` of their busy time on.
    """

    full_power_ratio: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Share of the power a connection or battery can give from which on it counts as full; left
    out: 0.98."""
    full_availability_ratio: Annotated[float, Field(gt=0, le=1)] = 0.999
    """Share of the committed IT power below which it counts as short; left out: 0.999."""
    power_capped_ratio: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Share of busy GPU time under a power limit from which on GPUs count as held back; left
    out: 0.02."""


class Floor(Model):
    """What is too small for the weekly meeting: less worth a week, and less power where it counts.

    Worth is money of the reporting currency with CO2e at the organization's price. Without
    `least_capacity_mw` power does not make up for what is worth little.
    """

    least_weekly_worth: Amount = 100
    """Least worth a week, in the reporting currency, CO2e included; left out: 100."""
    least_capacity_mw: Amount | None = None
    """Power in MW from which on it is worth the meeting whatever its money; left out: power
    does not count."""


class Agenda(Model):
    """How the weekly agenda weighs what it proposes.

    `carbon_price_per_tonne` is what avoiding a tonne of CO2e is worth, in the reporting currency;
    a price of one's own says where it comes from. A rule without a floor has the default one.
    """

    carbon_price_per_tonne: Amount = 100
    """What avoiding a tonne of CO2e is worth, in the reporting currency; left out: 100."""
    carbon_price_source: str = (
        "High-Level Commission on Carbon Prices (2017): 50 to 100 USD by 2030, its upper end"
    )
    """Where that price comes from; needed with a price of your own."""
    floors: dict[str, Floor] = Field(default_factory=dict)
    """From where on a proposal is worth the meeting, by rule of the agenda; a rule left out has
    the default floor."""

    @model_validator(mode="after")
    def _price_has_a_source(self) -> "Agenda":
        given = self.model_fields_set
        if "carbon_price_per_tonne" in given and "carbon_price_source" not in given:
            raise PydanticCustomError(
                "source",
                "found carbon_price_per_tonne {price} without carbon_price_source, expected both:"
                " say where the price comes from",
                {"price": self.carbon_price_per_tonne},
            )
        return self


class Organization(Model):
    """The organization whose book this is.

    `first_day` is the first UTC day of the book: Dagster shows the days from it on. An exchange
    rate holds until the next one, for at most `fx_rate_holds_days` days after its own: central
    banks publish none on weekends and holidays, of which Easter has the most in a row. Files that
    are deleted from `landing/` are out of the book, unless `landing_kept_days` says how long files
    are kept there: what was loaded longer ago may go. `team_groups` names the group of the machine
    that may read what is published for a team.

    Operations sees costs that rest on confidential contract prices as the nearest power of
    `confidential_rounding_ratio`, so that 1.25 lets them be up to 12 % off (see
    `are_prices_public` of a contract).
    """

    organization_id: Identifier
    """Short name of the organization, for tables and files, such as acme."""
    name: str
    """Name of the organization as people read it."""
    time_zone: TimeZone
    """IANA time zone of the organization's weeks, such as Europe/Berlin."""
    reporting_currency: Currency
    """Currency of all money in the book, such as EUR."""
    emission_factor_basis: Basis = "direct"
    """direct: CO2e of operation. life_cycle: CO2e of building, fuel and operation.
    Left out: direct, as Scope 2 counts."""
    first_day: date | None = None
    """First UTC day of the book, as 2026-01-01; left out: the first day with data, and before
    there is any the first day on which terms of a site hold."""
    fx_rate_holds_days: Annotated[int, Field(ge=0, le=31)] = 5
    """Days for which an exchange rate holds where no later one is given; left out: 5."""
    landing_kept_days: Annotated[int, Field(ge=1)] | None = None
    """Days for which files are kept in landing/; left out: a file deleted there is out of the
    next build."""
    confidential_rounding_ratio: Annotated[float, Field(ge=1.1, le=10)] = 1.25
    """Costs that rest on confidential prices are shown as the nearest power of this; left out:
    1.25, at most 12 % off."""
    team_groups: dict[Literal["energy", "finance", "operations"], str] = Field(default_factory=dict)
    """Group of this machine that may read what is published for a team; a team left out has
    none."""
    zones: list[Zone] = Field(default_factory=list)
    """Zones that sites, contracts and emission factors may name; left out: none."""
    thresholds: Thresholds = Thresholds()
    """From where on something counts as full, short or held back; left out: the defaults of
    each."""
    agenda: Agenda = Agenda()
    """How the weekly agenda weighs what it proposes; left out: the defaults of each."""


class Workload(Model):
    """What runs, how much it minds waiting, and where it may run.

    Without `allowed_countries` it may run in any, without `max_latency_ms` at any distance.
    `latency_ms` is the round trip from its users to each site; a site left out is not known. Nor is
    what lost work costs without `value_per_lost_gpu_hour`.
    """

    workload_id: Identifier
    """Short name of the workload, such as assistant-inference."""
    name: str
    """Name of the workload as people read it."""
    criticality: Literal["sensitive", "tolerant"]
    """sensitive: it cannot wait. tolerant: it may be deferred."""
    max_deferral_hours: Amount = 0
    """Hours for which it may be deferred; left out: not at all."""
    allowed_venues: list[VenueKind] = Field(default_factory=lambda: [*get_args(VenueKind)])
    """Kinds of venue where it may run; left out: any."""
    allowed_countries: list[CountryCode] | None = None
    """Countries where it may run, as [DE, FR]; left out: any."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Longest round trip to its users in milliseconds; left out: any."""
    latency_ms: dict[str, Amount] = Field(default_factory=dict)
    """Round trip from its users to each site in milliseconds, by site_id; a site left out is
    not known."""
    value_per_lost_gpu_hour: Amount | None = None
    """What a GPU-hour that it loses is worth, in the reporting currency; left out: not known."""


"""The workload of what no rule matches."""


UNASSIGNED = "unassigned"


class WorkloadRule(Model):
    """Job attributes that make a job part of a workload; one left out matches anything.

    Of a Kubernetes cluster `account` is the namespace, and where Kueue queues its pods `qos` is the
    priority class and `partition` the queue.
    """

    cluster: str = "*"
    """Cluster of the job; left out: any."""
    partition: str = "*"
    """Slurm partition of the job; left out: any."""
    qos: str = "*"
    """Slurm quality of service of the job; left out: any."""
    account: str = "*"
    """Slurm account of the job; left out: any."""
    workload_id: str
    """Workload that such a job belongs to."""


def _with_unassigned(workloads: list[Workload]) -> list[Workload]:
    """The workloads, and one for what no rule matches, which nobody has said may wait."""
    if any(workload.workload_id == UNASSIGNED for workload in workloads):
        return workloads
    rest = Workload(workload_id=UNASSIGNED, name="Matched by no rule", criticality="sensitive")
    return [*workloads, rest]


class Workloads(Model):
    """All of `workloads.yml`.

    What no rule matches belongs to the workload `unassigned`; where it is not declared, it is
    `sensitive`, may run anywhere, and what its loss costs is not known.
    """

    workloads: Annotated[
        list[Workload], AfterValidator(_with_unassigned), Field(validate_default=True)
    ] = Field(default_factory=list)
    """What runs; `unassigned` stands for jobs that no rule matches."""
    rules: list[WorkloadRule] = Field(default_factory=list)
    """Which job belongs to which workload; the first rule that matches decides."""


class Commitment(Model):
    """IT power promised at a site from a local month on, and intended there, the promised included.

    Without `planned_it_mw` nothing more is intended than promised. `utilization_ratio` is the share
    of the promised power that is drawn on average.
    """

    site_id: str
    """Site where the power is."""
    from_month: Month
    """First local month in which it holds, as 2026-04."""
    committed_it_mw: Amount
    """IT power promised to workloads, in MW."""
    planned_it_mw: Amount | None = None
    """IT power intended, the promised included, in MW; left out: no more than promised."""
    utilization_ratio: Annotated[float, Field(gt=0, le=1)]
    """Share of the promised power that is drawn on average, such as 0.7."""

    @model_validator(mode="after")
    def _committed_is_planned(self) -> "Commitment":
        if self.planned_it_mw is not None and self.planned_it_mw < self.committed_it_mw:
            raise PydanticCustomError(
                "planned",
                "found planned_it_mw {planned} below committed_it_mw {committed}, expected at least"
                " as much, for what is committed is planned too: correct one of the two",
                {"planned": self.planned_it_mw, "committed": self.committed_it_mw},
            )
        return self


class CapacityPlan(Model):
    """Commitments; each holds until the site's next one, the last until `until`."""

    until: Month | None = None
    """Local month at whose beginning the plan ends, as 2028-12."""
    commitments: list[Commitment] = Field(default_factory=list)
    """IT power by site and month; each holds until the site's next one."""

    @model_validator(mode="after")
    def _ends_what_it_commits(self) -> "CapacityPlan":
        if self.commitments and self.until is None:
            raise PydanticCustomError(
                "until",
                "found commitments without until, expected the month before which the last one"
                " ends: add until, as until: 2029-01",
            )
        return self


class Target(Model):
    """What a KPI should reach, everywhere or at one site."""

    kpi_id: str
    """KPI of the scorecard, such as effective_availability_ratio."""
    site_id: str | None = None
    """Site that it holds for; left out: all."""
    target: float
    """Value to reach, in the unit of the KPI."""
    direction: Literal["at_least", "at_most"]
    """at_least: higher is better. at_most: lower is better."""


class Targets(Model):
    """All of `targets.yml`."""

    targets: list[Target] = Field(default_factory=list)
    """What each KPI should reach."""
