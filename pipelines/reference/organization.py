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
    kind: Literal["bidding", "carbon"]
    name: str


class Thresholds(Model):
    """From where on something counts as full, short or held back.

    A connection or battery is full at `full_power_ratio` of the power it can give; IT power is
    short below `full_availability_ratio` of what is committed; GPUs are held back by a power limit
    from `power_capped_ratio` of their busy time on.
    """

    full_power_ratio: Annotated[float, Field(gt=0, le=1)] = 0.98
    full_availability_ratio: Annotated[float, Field(gt=0, le=1)] = 0.999
    power_capped_ratio: Annotated[float, Field(gt=0, le=1)] = 0.02


class Floor(Model):
    """What is too small for the weekly meeting: less worth a week, and less power where it counts.

    Worth is money of the reporting currency with CO2e at the organization's price. Without
    `least_capacity_mw` power does not make up for what is worth little.
    """

    least_weekly_worth: Amount = 100
    least_capacity_mw: Amount | None = None


class Agenda(Model):
    """How the weekly agenda weighs what it proposes.

    `carbon_price_per_tonne` is what avoiding a tonne of CO2e is worth, in the reporting currency;
    a price of one's own says where it comes from. A rule without a floor has the default one.
    """

    carbon_price_per_tonne: Amount = 100
    carbon_price_source: str = (
        "High-Level Commission on Carbon Prices (2017): 50 to 100 USD by 2030, its upper end"
    )
    floors: dict[str, Floor] = Field(default_factory=dict)

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

    `first_day` is the first UTC day of the book: Dagster builds the days from it on. An exchange
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
    name: str
    time_zone: TimeZone
    reporting_currency: Currency
    emission_factor_basis: Basis = "direct"
    first_day: date | None = None
    fx_rate_holds_days: Annotated[int, Field(ge=0, le=31)] = 5
    landing_kept_days: Annotated[int, Field(ge=1)] | None = None
    confidential_rounding_ratio: Annotated[float, Field(ge=1.1, le=10)] = 1.25
    team_groups: dict[Literal["energy", "finance", "operations"], str] = Field(default_factory=dict)
    zones: list[Zone] = Field(default_factory=list)
    thresholds: Thresholds = Thresholds()
    agenda: Agenda = Agenda()


class Workload(Model):
    """What runs, how much it minds waiting, and where it may run.

    Without `allowed_countries` it may run in any, without `max_latency_ms` at any distance.
    `latency_ms` is the round trip from its users to each site; a site left out is not known. Nor is
    what lost work costs without `value_per_lost_gpu_hour`.
    """

    workload_id: Identifier
    name: str
    criticality: Literal["sensitive", "tolerant"]
    max_deferral_hours: Amount = 0
    allowed_venues: list[VenueKind] = Field(default_factory=lambda: [*get_args(VenueKind)])
    allowed_countries: list[CountryCode] | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    latency_ms: dict[str, Amount] = Field(default_factory=dict)
    value_per_lost_gpu_hour: Amount | None = None


UNASSIGNED = "unassigned"
"""The workload of what no rule matches."""


class WorkloadRule(Model):
    """Job attributes that make a job part of a workload; one left out matches anything.

    Of a Kubernetes cluster `account` is the namespace, and where Kueue queues its pods `qos` is the
    priority class and `partition` the queue.
    """

    cluster: str = "*"
    partition: str = "*"
    qos: str = "*"
    account: str = "*"
    workload_id: str


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
    rules: list[WorkloadRule] = Field(default_factory=list)


class Commitment(Model):
    """IT power promised at a site from a local month on, and intended there, the promised included.

    Without `planned_it_mw` nothing more is intended than promised. `utilization_ratio` is the share
    of the promised power that is drawn on average.
    """

    site_id: str
    from_month: Month
    committed_it_mw: Amount
    planned_it_mw: Amount | None = None
    utilization_ratio: Annotated[float, Field(gt=0, le=1)]

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
    commitments: list[Commitment] = Field(default_factory=list)

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
    site_id: str | None = None
    target: float
    direction: Literal["at_least", "at_most"]


class Targets(Model):
    """All of `targets.yml`."""

    targets: list[Target] = Field(default_factory=list)
