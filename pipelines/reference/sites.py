"""Sites and what stands at them: nodes, connection, batteries, meters.

What belongs here: the files of `sites/`, `gpu_models.yml` and `meters.yml`. What does not: what is
paid (`contracts/`).
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from hostlist import BadHostlist, expand_hostlist
from pydantic import Field, model_validator
from pydantic.functional_validators import AfterValidator
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
    text_like,
)


def _host_list(name: str) -> str:
    if not re.fullmatch(r"[\w.,\[\]-]+", name):
        raise PydanticCustomError(
            "hostnames",
            "found host name {name}, expected letters, digits, '-', '.' and '_', or a host list"
            " such as gpu[01-16]: correct the name",
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
    return name


Hostnames = Annotated[
    str,
    AfterValidator(_host_list),
    text_like("a host name, or a Slurm host list such as gpu[01-16]", "gpu[01-16]"),
]
"""A host name, or a Slurm host list expression for several."""


class GpuModel(Model):
    """Power of one GPU when idle and at its limit, and what making it emitted."""

    gpu_model: Identifier
    """Name of the model that node groups use, such as H100-SXM5."""
    idle_w: Amount
    """Power of one GPU that does nothing, in W."""
    peak_w: Annotated[float, Field(gt=0)]
    """Power limit of one GPU, in W."""
    embodied_kg: Amount | None = None
    """CO2e of making one GPU, in kg; left out: not known, and no SCI."""
    lifetime_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours over which making it is spread, such as 43800 for five years; left out with
    embodied_kg."""

    @model_validator(mode="after")
    def _spreads_what_it_embodies(self) -> "GpuModel":
        if (self.embodied_kg is None) != (self.lifetime_hours is None):
            raise PydanticCustomError(
                "embodied",
                "expected embodied_kg and lifetime_hours, or neither: add the other of the two",
            )
        return self


class GpuModels(Model):
    """All of `gpu_models.yml`."""

    gpu_models: list[GpuModel] = Field(default_factory=list)
    """Every model that a site has."""


class NodeGroup(Model):
    """Nodes of one kind, by their host names as telemetry and accounting write them.

    Either a prefix and a number of so many digits, or `hostnames`: a list of names, as cloud and
    Kubernetes nodes have them, or of Slurm host list expressions such as `gpu[01-16]-ib`.
    """

    name_prefix: str | None = None
    """What host names begin with before their number, such as gpu; left out: hostnames names
    them."""
    first: Annotated[int, Field(ge=0)] | None = None
    """Number of the first node; left out with hostnames."""
    last: Annotated[int, Field(ge=0, le=999_999)] | None = None
    """Number of the last node; left out with hostnames."""
    digits: Annotated[int, Field(ge=1, le=9)] | None = None
    """Digits of the number, with leading zeros, such as 4 for gpu0001; left out with hostnames."""
    hostnames: Annotated[list[Hostnames], Field(min_length=1)] | None = None
    """Host names, or Slurm host lists such as gpu[01-16]; left out: prefix and number name them."""
    gpus_per_node: Annotated[int, Field(ge=0, le=64)]
    """GPUs in each node; 0 for nodes without."""
    gpu_model: str
    """Model of the GPUs, as declared in gpu_models.yml."""
    host_idle_w: Amount
    """Power of a node without its GPUs when idle, in W."""
    host_peak_w: Amount
    """Power of a node without its GPUs at full load, in W."""

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
    """Power that the grid connection always carries, in MW."""
    grid_non_firm_mw: Amount = 0
    """Power beyond it that the grid may curtail, in MW; left out: none."""
    electrical_limit_mw: Amount | None = None
    """Most that the site's own electrical installation carries, in MW; left out: no limit
    of its own."""
    cooling_limit_mw: Amount | None = None
    """Most IT power that cooling carries, in MW; left out: no limit of its own."""
    it_capacity_mw: Amount
    """Most IT power that is installed, in MW."""
    design_pue: Annotated[float, Field(ge=1)]
    """Facility power by IT power as designed, such as 1.2; used where it is not measured."""
    variable_cost_per_gpu_hour: Amount = 0
    """What a GPU-hour costs besides energy, in the site's currency; left out: nothing."""
    local_committed_mw: Amount = 0
    """Power that the local layer is committed to give, in MW; left out: none."""
    is_local_islandable: bool = False
    """Whether batteries and generation carry the load while the grid is out; left
    out: they do not."""
    sustain_hours: Annotated[float, Field(gt=0)] = 1
    """Hours for which a battery has to hold its power to count; left out: 1."""
    price_stop_per_mwh: float | None = None
    """Price per MWh from which on the site stops tolerant work, in its currency; left out: it
    never does."""


class Battery(Terms):
    """A battery's nameplate; power and energy at its terminals."""

    battery_id: Identifier
    """Short name of the battery, such as north-battery."""
    chemistry: str
    """What it is made of, such as lithium-ion or iron-air."""
    power_mw: Annotated[float, Field(gt=0)]
    """Most power at its terminals, in MW."""
    energy_mwh: Annotated[float, Field(gt=0)]
    """Energy between empty and full at its terminals, in MWh."""
    reserve_ratio: Share
    """Share of its energy that is kept in reserve, from 0 to 1."""
    charge_efficiency: Efficiency
    """Stored by charged energy, such as 0.95."""
    discharge_efficiency: Efficiency
    """Discharged by drawn energy, such as 0.95."""
    degradation_cost_per_mwh: Amount
    """Wear of each MWh discharged, in the site's currency."""
    power_sign: Literal["discharge_positive", "charge_positive"]
    """Whether its readings of power are positive while it discharges or charges."""


class CloudVenue(Model):
    """How the bill of a public cloud names this venue and its GPU machines, and their model.

    `bill_delivery` is FOCUS's delivery mechanism: each file the whole bill of its period so far
    (`overwrite`), or only what is new (`append`).
    """

    provider_name: str
    """ProviderName of the FOCUS bill."""
    region_id: str
    """RegionId of the FOCUS bill."""
    gpus_per_instance: dict[str, Annotated[int, Field(gt=0)]]
    """GPUs of a machine, by its SKU on the bill, as {SKU-1: 8}."""
    gpu_model: str | None = None
    """Model of the GPUs, as declared in gpu_models.yml; left out: not known."""
    bill_delivery: Literal["overwrite", "append"] = "overwrite"
    """overwrite: each file is the whole bill of its period so far. append: only what is new.
    Left out: overwrite."""


class DataCentreYear(Model):
    """What no meter tells of a site in a calendar year, for the report after (EU) 2024/1364.

    All may be left out: the report then says that it is missing. Energies, volumes and traffic are
    those of the whole year.
    """

    year: Annotated[int, Field(ge=2023, le=2100)]
    """Calendar year that the entry is about, as 2026."""
    operator: str | None = None
    """Owner and operator of the data centre; left out: missing from the report."""
    lau_code: str | None = None
    """Code of its municipality as a local administrative unit; left out: missing from the
    report."""
    data_centre_type: Literal["enterprise", "colocation", "co-hosting"] | None = None
    """enterprise: for its owner. colocation: space for customers. co-hosting: both. Left out:
    missing from the report."""
    in_operation_since: Month | None = None
    """Month in which it began to operate, as 2019-05; left out: missing from the report."""
    electrical_redundancy: str | None = None
    """Redundancy level of its electricity supply, such as N+1; left out: missing from the
    report."""
    cooling_redundancy: str | None = None
    """Redundancy level of its cooling, such as N+1; left out: missing from the report."""
    total_floor_area_m2: Amount | None = None
    """Floor area of the data centre, in m2; left out: missing from the report."""
    computer_room_area_m2: Amount | None = None
    """Floor area of its computer rooms, in m2; left out: missing from the report."""
    grid_functions: str | None = None
    """Services that it offers to the grid; left out: missing from the report."""
    battery_offered_kw: Amount | None = None
    """Battery power offered to the grid, in kW; left out: missing from the report."""
    water_input_m3: Amount | None = None
    """Water taken in, in m3; left out: missing from the report."""
    potable_water_input_m3: Amount | None = None
    """Drinking water taken in, in m3; left out: missing from the report."""
    waste_heat_reused_kwh: Amount | None = None
    """Waste heat that others used, in kWh; left out: missing from the report."""
    waste_heat_celsius: float | None = None
    """Mean temperature of the waste heat, in degrees Celsius; left out: missing from the report."""
    intake_setpoint_celsius: float | None = None
    """Set point of the air taken in by IT equipment, in degrees Celsius; left out: missing from
    the report."""
    refrigerants: Annotated[list[str], Field(min_length=1)] | None = None
    """Refrigerants of its cooling, as [R1234ze]; left out: missing from the report."""
    cooling_degree_days: Amount | None = None
    """Cooling degree days of its location; left out: missing from the report."""
    server_capacity_sert: Amount | None = None
    """Capacity of its servers after SERT; left out: missing from the report."""
    storage_capacity_pb: Amount | None = None
    """Capacity of its storage, in petabytes; left out: missing from the report."""
    incoming_bandwidth_gb_per_s: Amount | None = None
    """Bandwidth inwards, in gigabytes per second; left out: missing from the report."""
    outgoing_bandwidth_gb_per_s: Amount | None = None
    """Bandwidth outwards, in gigabytes per second; left out: missing from the report."""
    incoming_traffic_eb: Amount | None = None
    """Traffic inwards, in exabytes; left out: missing from the report."""
    outgoing_traffic_eb: Amount | None = None
    """Traffic outwards, in exabytes; left out: missing from the report."""

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
    """Short name of the site that other files use, such as berlin."""
    name: str
    """Name of the site as people read it."""
    venue_kind: VenueKind
    """own_site: yours. hpc_allocation: a share of somebody else's machine. public_cloud: rented
    by the hour."""
    country_code: CountryCode
    """Country in two capital letters, such as DE; Norway in quotes, as 'NO'."""
    time_zone: TimeZone
    """IANA time zone of the site's days, such as Europe/Berlin."""
    bidding_zone: str | None = None
    """Zone of its prices, as declared in organization.yml; left out: no market price."""
    price_market: Literal["day_ahead", "real_time"] | None = None
    """Market whose price counts for the site; left out: none."""
    price_sequence: Annotated[int, Field(ge=1)] = 1
    """Which auction of that market, as ENTSO-E numbers them; left out: the first."""
    carbon_zone: str | None = None
    """Zone of its generation mix, as declared in organization.yml; left out: no hourly carbon
    intensity."""
    currency_code: Currency
    """Currency of what the site pays, such as EUR."""
    clusters: list[str] = Field(default_factory=list)
    """Names of its clusters as accounting writes them; left out: none."""
    holders: Literal["accounting", "telemetry"] = "accounting"
    """Who tells which workload held a GPU. accounting: listings of the clusters' jobs. telemetry:
    the Kubernetes pods that GPU samples name, of its one cluster; its jobs, if any come, count
    nowhere. Left out: accounting."""
    grid_event_target: str | None = None
    """Target that grid events name it by; left out: it gets none."""
    node_groups: list[NodeGroup] = Field(default_factory=list)
    """Nodes of the site by kind; left out: none."""
    terms: list[SiteTerms] = Field(default_factory=list)
    """Connection, limits and commitments, each since when it holds; needed but for a
    public_cloud."""
    batteries: list[Battery] = Field(default_factory=list)
    """Batteries at the site; left out: none."""
    cloud: CloudVenue | None = None
    """How the bill names this venue; needed for a public_cloud, else left out."""
    data_centre_years: list[DataCentreYear] = Field(default_factory=list)
    """What no meter tells of a year, for the EU 2024/1364 report; left out: missing from the
    report."""

    @model_validator(mode="after")
    def _declares_a_year_once(self) -> "Site":
        years = [entry.year for entry in self.data_centre_years]
        if len(set(years)) < len(years):
            raise PydanticCustomError(
                "years", "data_centre_years declares a year twice, expected once: join the two"
            )
        return self

    @model_validator(mode="after")
    def _names_the_cluster_of_its_pods(self) -> "Site":
        if self.holders == "telemetry" and len(self.clusters) != 1:
            raise PydanticCustomError(
                "holders",
                "found holders: telemetry beside {count} clusters, expected one, whose pods the"
                " samples name: declare it under clusters",
                {"count": len(self.clusters)},
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
    """Number of the meter as its readings have it."""
    flow: Literal["import", "export"] = "import"
    """import: energy to the site or into the battery. export: energy from it. Left out: import."""
    site_id: str
    """Site whose balance it belongs to."""
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
    """Part it plays in the site's balance, such as grid_import."""
    multiplier: Annotated[float, Field(gt=0)] = 1
    """What each reading is multiplied by; left out: 1."""
    accuracy_class: str | None = None
    """Accuracy class in quotes, such as '0.5S'; left out: not known."""
    energy_source: EnergySource | None = None
    """What generation is made of; needed of generation meters, else left out."""
    battery_id: str | None = None
    """Battery that it measures; needed of battery meters, else left out."""
    contract_id: str | None = None
    """Contract that is settled by it; needed of ppa_generation meters, else left out."""
    variable_cost_per_mwh: Amount | None = None
    """What one MWh of its generation costs, in the site's currency; left out: not known."""
    estimate: Literal["like_days"] | None = None
    """like_days: missing readings are estimated from those of like days. Left out: they stay
    missing."""


class Meters(Model):
    """All of `meters.yml`."""

    meters: list[Meter] = Field(default_factory=list)
    """Every meter of all sites, one entry per flow."""
