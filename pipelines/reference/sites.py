"""Sites and what stands at them: nodes, connection, batteries, meters.

What belongs here: the files of `sites/`, `gpu_models.yml` and `meters.yml`. What does not: what is
paid (`contracts/`).
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from hostlist import BadHostlist, expand_hostlist
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import (
    Amount,
    CountryCode,
    Currency,
    Dated,
    Efficiency,
    EnergySource,
    Identifier,
    Model,
    Month,
    Share,
    Terms,
    TimeZone,
    VenueKind,
)


class GpuModel(Model):
    """Power of one GPU when idle and at its limit, and what making it emitted."""

    gpu_model: Identifier
    idle_w: Amount
    peak_w: Annotated[float, Field(gt=0)]
    embodied_kg: Amount
    lifetime_hours: Annotated[float, Field(gt=0)]


class GpuModels(Model):
    """All of `gpu_models.yml`."""

    gpu_models: list[GpuModel] = Field(default_factory=list)


class NodeGroup(Model):
    """Nodes of one kind, by their host names as telemetry and accounting write them.

    Either a prefix and a number of so many digits, or `hostnames`: a list of names, as cloud and
    Kubernetes nodes have them, or of Slurm host list expressions such as `gpu[01-16]-ib`.
    """

    name_prefix: str | None = None
    first: Annotated[int, Field(ge=0)] | None = None
    last: Annotated[int, Field(ge=0, le=999_999)] | None = None
    digits: Annotated[int, Field(ge=1, le=9)] | None = None
    hostnames: Annotated[list[str], Field(min_length=1)] | None = None
    gpus_per_node: Annotated[int, Field(ge=0, le=64)]
    gpu_model: str
    host_idle_w: Amount
    host_peak_w: Amount

    @model_validator(mode="after")
    def _names_its_nodes_in_one_way(self) -> "NodeGroup":
        numbered = (self.name_prefix, self.first, self.last, self.digits)
        if (None in numbered) == (self.hostnames is None) or (
            self.hostnames is not None and any(part is not None for part in numbered)
        ):
            raise PydanticCustomError(
                "hostnames",
                "expected either name_prefix, first, last and digits, or hostnames: add what is"
                " missing or remove one of the two",
            )
        for name in self.hostnames or []:
            if not re.fullmatch(r"[\w.,\[\]-]+", name):
                raise PydanticCustomError(
                    "hostnames",
                    "found host name {name}, expected letters, digits, '-', '.' and '_', or a host"
                    " list such as gpu[01-16]: correct the name",
                    {"name": repr(name)},
                )
            try:
                expand_hostlist(name)
            except BadHostlist as error:
                raise PydanticCustomError(
                    "hostnames",
                    "found host list {name} ({error}), expected one such as gpu[01-16]: correct it",
                    {"name": repr(name), "error": str(error)},
                ) from error
        return self

    def names(self) -> list[str]:
        """The host names of its nodes."""
        if self.hostnames is not None:
            return [host for name in self.hostnames for host in expand_hostlist(name)]
        assert self.first is not None
        assert self.last is not None
        numbers = range(self.first, self.last + 1)
        return [f"{self.name_prefix}{number:0{self.digits}d}" for number in numbers]


class SiteTerms(Terms):
    """Connection, limits and commitments of a site while they hold.

    A limit that is left out limits nothing: what the connection and the IT capacity let through is
    then all that does.
    """

    grid_firm_mw: Amount
    grid_non_firm_mw: Amount = 0
    electrical_limit_mw: Amount | None = None
    cooling_limit_mw: Amount | None = None
    it_capacity_mw: Amount
    design_pue: Annotated[float, Field(ge=1)]
    variable_cost_per_gpu_hour: Amount = 0
    local_committed_mw: Amount = 0
    is_local_islandable: bool = False
    sustain_hours: Annotated[float, Field(gt=0)] = 1
    price_stop_per_mwh: float | None = None


class Battery(Terms):
    """A battery's nameplate; power and energy at its terminals."""

    battery_id: Identifier
    chemistry: str
    power_mw: Annotated[float, Field(gt=0)]
    energy_mwh: Annotated[float, Field(gt=0)]
    reserve_ratio: Share
    charge_efficiency: Efficiency
    discharge_efficiency: Efficiency
    degradation_cost_per_mwh: Amount
    power_sign: Literal["discharge_positive", "charge_positive"]


class CloudVenue(Model):
    """How the bill of a public cloud names this venue and its GPU machines, and their model.

    `bill_delivery` is FOCUS's delivery mechanism: each file the whole bill of its period so far
    (`overwrite`), or only what is new (`append`).
    """

    provider_name: str
    region_id: str
    gpus_per_instance: dict[str, Annotated[int, Field(gt=0)]]
    gpu_model: str | None = None
    bill_delivery: Literal["overwrite", "append"] = "overwrite"


class DataCentreYear(Model):
    """What no meter tells of a site in a calendar year, for the report after (EU) 2024/1364.

    All may be left out: the report then says that it is missing. Energies, volumes and traffic are
    those of the whole year.
    """

    year: Annotated[int, Field(ge=2023, le=2100)]
    operator: str | None = None
    lau_code: str | None = None
    data_centre_type: Literal["enterprise", "colocation", "co-hosting"] | None = None
    in_operation_since: Month | None = None
    electrical_redundancy: str | None = None
    cooling_redundancy: str | None = None
    total_floor_area_m2: Amount | None = None
    computer_room_area_m2: Amount | None = None
    grid_functions: str | None = None
    battery_offered_kw: Amount | None = None
    water_input_m3: Amount | None = None
    potable_water_input_m3: Amount | None = None
    waste_heat_reused_kwh: Amount | None = None
    waste_heat_celsius: float | None = None
    intake_setpoint_celsius: float | None = None
    refrigerants: Annotated[list[str], Field(min_length=1)] | None = None
    cooling_degree_days: Amount | None = None
    server_capacity_sert: Amount | None = None
    storage_capacity_pb: Amount | None = None
    incoming_bandwidth_gb_per_s: Amount | None = None
    outgoing_bandwidth_gb_per_s: Amount | None = None
    incoming_traffic_eb: Amount | None = None
    outgoing_traffic_eb: Amount | None = None

    @model_validator(mode="after")
    def _parts_are_within_their_whole(self) -> "DataCentreYear":
        for part, whole in (
            ("computer_room_area_m2", "total_floor_area_m2"),
            ("potable_water_input_m3", "water_input_m3"),
        ):
            of_part, of_whole = getattr(self, part), getattr(self, whole)
            if of_part is not None and of_whole is not None and of_part > of_whole:
                raise PydanticCustomError(
                    "parts",
                    "found {part} {of_part} above {whole} {of_whole}: correct one of the two",
                    {"part": part, "of_part": of_part, "whole": whole, "of_whole": of_whole},
                )
        return self


class Site(Model):
    """A venue where workloads run."""

    site_id: Identifier
    name: str
    venue_kind: VenueKind
    country_code: CountryCode
    time_zone: TimeZone
    bidding_zone: str | None = None
    price_market: Literal["day_ahead", "real_time"] | None = None
    price_sequence: Annotated[int, Field(ge=1)] = 1
    carbon_zone: str | None = None
    currency_code: Currency
    clusters: list[str] = Field(default_factory=list)
    grid_event_target: str | None = None
    node_groups: list[NodeGroup] = Field(default_factory=list)
    terms: list[SiteTerms] = Field(default_factory=list)
    batteries: list[Battery] = Field(default_factory=list)
    cloud: CloudVenue | None = None
    data_centre_years: list[DataCentreYear] = Field(default_factory=list)

    @model_validator(mode="after")
    def _declares_a_year_once(self) -> "Site":
        years = [entry.year for entry in self.data_centre_years]
        if len(set(years)) < len(years):
            raise PydanticCustomError(
                "years", "data_centre_years declares a year twice, expected once: join the two"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_venue_kind(self) -> "Site":
        if self.venue_kind == "public_cloud" and self.cloud is None:
            raise PydanticCustomError(
                "cloud", "a public_cloud venue needs cloud: say how its bill names it"
            )
        if self.venue_kind != "public_cloud" and not self.terms:
            raise PydanticCustomError(
                "terms", "a site with meters needs terms: declare its connection"
            )
        return self


def hostnames(site: Site) -> Iterator[str]:
    """The host names of all nodes of a site."""
    for group in site.node_groups:
        yield from group.names()


class Meter(Dated):
    """One flow of a meter and the part it plays in its site's balance.

    With `estimate: like_days` readings that are missing are estimated from those of like days.
    """

    meter_id: str
    flow: Literal["import", "export"] = "import"
    site_id: str
    role: Literal[
        "grid_import",
        "grid_export",
        "onsite_generation",
        "battery_charge",
        "battery_discharge",
        "it_load",
        "cooling_load",
        "facility_total",
        "ppa_generation",
    ]
    multiplier: Annotated[float, Field(gt=0)] = 1
    accuracy_class: str | None = None
    energy_source: EnergySource | None = None
    battery_id: str | None = None
    contract_id: str | None = None
    variable_cost_per_mwh: Amount | None = None
    estimate: Literal["like_days"] | None = None


class Meters(Model):
    """All of `meters.yml`."""

    meters: list[Meter] = Field(default_factory=list)
