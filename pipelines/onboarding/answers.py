"""What an organization answers when it begins a book: the questions, and a file of answers.

What belongs here: what is asked, as models whose descriptions are the questions, and what answers
cannot be together. What does not: asking (`questions.py`) and what is written of the answers
(`declarations.py`).

A file of answers holds what the questions ask, under the names that reference files use. What is
left out is not there.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from typing import Annotated, ClassVar, Literal

from hostlist import expand_hostlist
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.connectors.entsoe import ZONES
from pipelines.reference.fields import (
    Amount,
    CountryCode,
    Currency,
    Efficiency,
    EnergySource,
    Identifier,
    Model,
    Share,
    TimeZone,
    text_like,
)
from pipelines.reference.sites import Hostnames
from pipelines.reference.sources import EIC_PATTERN, ApiVersion, LoginHost, Variable, WebAddress

Positive = Annotated[float, Field(gt=0)]
Name = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s\x00-\x1f\x7f-\x9f]$"),
    text_like("text of one line", "Hall"),
]
EICS = {zone: eic for eic, zone in ZONES.items()}
"""The EIC of each zone that ENTSO-E's documents are read as."""


class Answers(Model):
    """Some answers that belong together.

    `needs` says of a field for which values of another it has to be answered, and `allows` for
    which it may; for any other value it is neither asked nor taken.
    """

    needs: ClassVar[Mapping[str, tuple[str, Collection[str]]]] = {}
    allows: ClassVar[Mapping[str, tuple[str, Collection[str]]]] = {}

    @model_validator(mode="after")
    def _has_what_belongs_to_it(self) -> "Answers":
        for name, (other, values) in {**self.needs, **self.allows}.items():
            is_given, found = bool(getattr(self, name)), getattr(self, other)
            if is_given and found not in values:
                raise PydanticCustomError(
                    "not_asked",
                    "found {name} with {other} {found}, expected it with {values} alone: remove it",
                    {"name": name, "other": other, "found": found, "values": " or ".join(values)},
                )
            if name in self.needs and not is_given and found in values:
                raise PydanticCustomError(
                    "needed",
                    "found {other} {found} without {name}, expected both: add it",
                    {"name": name, "other": other, "found": found},
                )
        return self


class GpuAnswers(Answers):
    """A GPU model."""

    gpu_model: Identifier
    """Short name of the GPU model, such as H100-SXM5"""
    idle_w: Amount
    """Power of one GPU that does nothing, in W (nvidia-smi shows it)"""
    peak_w: Positive
    """Power limit of one GPU, in W (nvidia-smi shows it)"""


class NodesAnswers(Answers):
    """Nodes of one kind."""

    hostnames: Annotated[list[Hostnames], Field(min_length=1)]
    """Host names as telemetry and accounting write them: gpu[001-016], or login1, ip-10-0-3-7"""
    gpus_per_node: Annotated[int, Field(ge=0, le=64)]
    """GPUs in each node (0 for nodes without)"""
    gpu_model: str
    """Their GPU model"""
    host_idle_w: Amount
    """Power of a node without its GPUs when idle, in W (its data sheet or BMC)"""
    host_peak_w: Amount
    """Power of a node without its GPUs at full load, in W"""


class SchedulerAnswers(Answers):
    """What hands out the GPUs."""

    needs: ClassVar = {name: ("kind", ["slurmrestd"]) for name in ("url", "user", "api_version")}
    allows: ClassVar = {"login_host": ("kind", ["slurm"])}

    kind: Literal["slurm", "slurmrestd", "opencost"]
    """How accounting comes: slurm as sacct prints it, slurmrestd by its REST API, opencost of a
    Kubernetes cluster"""
    cluster: Name
    """Name of the cluster as accounting writes it"""
    login_host: LoginHost | None = None
    """Login host on which `wattbook pull` may run sacct by ssh, such as login.example.org"""
    url: WebAddress | None = None
    """Address of slurmrestd, such as https://slurm.example.org"""
    user: Name | None = None
    """User of slurmrestd that the token in SLURM_TOKEN is of"""
    api_version: ApiVersion | None = None
    """Version of slurmrestd's API, such as v0.0.41"""


class BatteryAnswers(Answers):
    """A battery."""

    battery_id: Identifier
    """Short name of the battery as its telemetry has it, such as north-battery"""
    chemistry: Name
    """What it is made of, such as lithium-ion"""
    power_mw: Positive
    """Most power at its terminals, in MW"""
    energy_mwh: Positive
    """Energy between empty and full at its terminals, in MWh"""
    reserve_ratio: Share
    """Share of its energy that is kept in reserve, from 0 to 1"""
    charge_efficiency: Efficiency
    """Stored by charged energy, such as 0.95"""
    discharge_efficiency: Efficiency
    """Discharged by drawn energy, such as 0.95"""
    degradation_cost_per_mwh: Amount
    """Wear of each MWh discharged, in the site's currency (0: not reckoned)"""
    power_sign: Literal["discharge_positive", "charge_positive"]
    """Whether its readings of power are positive while it discharges or charges"""
    source: Literal["battery_csv", "sunspec"] = "battery_csv"
    """How its telemetry comes"""


class MeterAnswers(Answers):
    """A flow of a meter."""

    needs: ClassVar = {
        "energy_source": ("role", ["onsite_generation"]),
        "battery_id": ("role", ["battery_charge", "battery_discharge"]),
    }

    meter_id: Name
    """Number of the meter as its readings have it"""
    role: Literal[
        "grid_import",
        "grid_export",
        "it_load",
        "cooling_load",
        "facility_total",
        "onsite_generation",
        "battery_charge",
        "battery_discharge",
    ]
    """What it counts"""
    flow: Literal["import", "export"] | None = None
    """Direction in its readings, where it is not the usual one"""
    multiplier: Positive = 1
    """What its readings are multiplied by, where transformers divide them"""
    energy_source: EnergySource | None = None
    """What the plant generates from"""
    battery_id: str | None = None
    """Battery that it measures"""


class PricesAnswers(Answers):
    """The market that sets the site's price."""

    allows: ClassVar = {"token_variable": ("source", ["entsoe"])}

    source: Literal["entsoe", "prices_csv"]
    """How prices come: entsoe as XML of its platform, prices_csv as ERCOT's or CAISO's CSV or a
    list"""
    bidding_zone: Name
    """Zone or node as its source names it, such as DE-LU or HB_NORTH"""
    price_market: Literal["day_ahead", "real_time"]
    """Market whose price counts"""
    token_variable: Variable | None = None
    """Environment variable with a token by which `wattbook pull` asks ENTSO-E, as ENTSOE_TOKEN"""

    @model_validator(mode="after")
    def _is_a_zone_of_entsoe(self) -> "PricesAnswers":
        if self.source == "entsoe" and self.eic is None:
            raise PydanticCustomError(
                "zone",
                "found bidding_zone {zone}, expected one of {zones}, or an EIC of 16 characters:"
                " correct it",
                {"zone": self.bidding_zone, "zones": ", ".join(sorted(EICS))},
            )
        return self

    @property
    def eic(self) -> str | None:
        """The EIC of a zone of ENTSO-E."""
        if self.bidding_zone in EICS:
            return EICS[self.bidding_zone]
        return self.bidding_zone if _is_eic(self.bidding_zone) else None


class CarbonAnswers(Answers):
    """Who tells the carbon intensity of the grid."""

    allows: ClassVar = {"token_variable": ("source", ["electricity_maps"])}

    source: Literal["electricity_maps", "watttime"]
    """Who tells it, hour by hour"""
    carbon_zone: Name
    """Zone as they name it, such as DE or US-TEX-ERCO"""
    token_variable: Variable | None = None
    """Environment variable with a token by which `wattbook pull` asks Electricity Maps, as
    ELECTRICITY_MAPS_TOKEN"""


class GridEventsAnswers(Answers):
    """Who tells outages and curtailments."""

    source: Literal["outages_csv", "openadr"]
    """How they come: outages_csv as a list of your own, openadr as events of OpenADR 3"""
    target: Name | None = None
    """Target that events name the site by, where it is not the site's short name"""


class GridContractAnswers(Answers):
    """The contract on the use of the grid; prices in the site's currency."""

    counterparty: Name
    """Grid operator that it is with"""
    network_per_mwh: Amount
    """Network charge of each MWh drawn"""
    levies_per_mwh: Amount
    """Levies on each MWh drawn (0: none)"""
    demand_charge_per_kw: Amount
    """Charge of each kW of the month's greatest demand (0: none)"""
    capacity_charge_per_kw_month: Amount = 0
    """Charge of each contracted kW and month"""
    contracted_kw: Amount | None = None
    """Power contracted of the grid in kW, where it is not the firm power of the connection"""


class SupplyAnswers(Answers):
    """The contract on the energy itself; prices in the site's currency."""

    counterparty: Name
    """Supplier that it is with"""
    price_basis: Literal["flat", "spot_plus"]
    """How energy is priced: flat at one price, spot_plus at the market's price and a margin"""
    energy_price_per_mwh: float
    """Price of each MWh; with spot_plus the margin on the market's price (0: none)"""
    export_price_per_mwh: float | None = None
    """Price of each MWh fed in"""


class PpaAnswers(Answers):
    """A power purchase agreement; prices in the site's currency."""

    needs: ClassVar = {
        **{
            name: ("kind", ["ppa_pay_as_produced", "vppa_cfd"])
            for name in ("meter_id", "plant_capacity_mw", "share_of_plant")
        },
        "baseload_mw": ("kind", ["ppa_baseload"]),
    }

    contract_id: Identifier
    """Short name of the contract, such as hall-solar"""
    kind: Literal["ppa_pay_as_produced", "ppa_baseload", "vppa_cfd"]
    """What you take: ppa_pay_as_produced your share of what a plant makes, ppa_baseload constant
    power, vppa_cfd the difference to the market's price alone"""
    counterparty: Name
    """Seller that it is with"""
    price_per_mwh: float
    """Price of each MWh; of a vppa_cfd its strike"""
    energy_source: EnergySource
    """What the energy is made of"""
    certificates: Literal["bundled", "none"]
    """Certificates: bundled within the price, or none"""
    meter_id: Name | None = None
    """Number of the plant's meter as its readings have it"""
    plant_capacity_mw: Positive | None = None
    """Capacity of the whole plant, in MW"""
    share_of_plant: Share | None = None
    """Share of its production that is yours, from 0 to 1"""
    baseload_mw: Positive | None = None
    """Constant power, in MW"""


class AllocationAnswers(Answers):
    """Node-hours on somebody else's machine; the price in the site's currency."""

    counterparty: Name
    """Computing centre that it is with"""
    node_hours: Amount
    """Node-hours granted"""
    price_per_node_hour: Amount
    """Price of a node-hour, charged or reckoned"""
    is_shadow_price: bool
    """Whether the price is reckoned only and nobody is charged"""


class CommitmentAnswers(Answers):
    """IT power promised to workloads."""

    committed_it_mw: Positive
    """IT power promised to workloads, in MW"""
    utilization_ratio: Annotated[float, Field(gt=0, le=1)]
    """Share of it that is drawn on average, such as 0.7"""


class SiteAnswers(Answers):
    """A site with a grid connection."""

    allows: ClassVar = {"allocation": ("venue_kind", ["hpc_allocation"])}

    site_id: Identifier
    """Short name of the site, such as hall"""
    name: Name | None = None
    """Name of the site as people read it, where it is another"""
    venue_kind: Literal["own_site", "hpc_allocation"] = "own_site"
    """Kind of site: own_site where it is yours, hpc_allocation where you have a share of
    another's"""
    country_code: CountryCode
    """Country in two capital letters, such as FR"""
    time_zone: TimeZone | None = None
    """IANA time zone of the site, where it is not the organization's"""
    currency_code: Currency | None = None
    """Currency of what the site pays, where it is not the reporting currency"""
    grid_firm_mw: Amount
    """Power that the grid connection always carries, in MW"""
    grid_non_firm_mw: Amount = 0
    """Power beyond it that the grid may curtail, in MW"""
    it_capacity_mw: Positive
    """Most IT power that is installed, in MW"""
    design_pue: Annotated[float, Field(ge=1)]
    """Facility power by IT power as designed, such as 1.3"""
    electrical_limit_mw: Positive | None = None
    """Most that the site's electrical installation carries, in MW, where that is less"""
    cooling_limit_mw: Positive | None = None
    """Most IT power that cooling carries, in MW, where that is less"""
    commitment: CommitmentAnswers | None = None
    """IT power promised to workloads, which availability is measured against"""
    batteries: list[BatteryAnswers] = Field(default_factory=list)
    """Batteries of the site"""
    meters: list[MeterAnswers] = Field(default_factory=list)
    """Meters whose readings you get, that of the grid connection first"""
    readings: Literal["nem12", "green_button", "mscons", "readings_csv"] | None = None
    """How readings come; readings_csv for any CSV"""
    nodes: list[NodesAnswers] = Field(default_factory=list)
    """Nodes of one kind, by their host names"""
    telemetry: Literal["prometheus", "dcgm_scrape", "redfish", "kepler"] | None = None
    """How power of GPUs or nodes comes: prometheus for query answers and exports, dcgm_scrape for
    dcgm-exporter's /metrics as text"""
    prometheus_url: WebAddress | None = None
    """Address of a Prometheus server that `wattbook pull` may ask, as https://prometheus.example.org"""
    scheduler: SchedulerAnswers | None = None
    """Scheduler whose accounting you get"""
    prices: PricesAnswers | None = None
    """Market whose price you pay or want to see"""
    grid_contract: GridContractAnswers | None = None
    """Contract on the use of the grid"""
    supply: SupplyAnswers | None = None
    """Contract on the energy itself, with a supplier"""
    ppas: list[PpaAnswers] = Field(default_factory=list)
    """Power purchase agreements"""
    allocation: AllocationAnswers | None = None
    """Allocation of node-hours"""
    carbon: CarbonAnswers | None = None
    """Hourly carbon intensity of the grid"""
    grid_events: GridEventsAnswers | None = None
    """Outages and curtailments of the grid, told in files"""

    @model_validator(mode="after")
    def _follows_a_market_that_it_names(self) -> "SiteAnswers":
        needing = "ppas" if self.ppas else "supply"
        if self.prices is None and (
            self.ppas or (self.supply is not None and self.supply.price_basis == "spot_plus")
        ):
            raise PydanticCustomError(
                "prices",
                "found {needing} at the market's price without prices, expected both: add prices",
                {"needing": needing},
            )
        return self

    @model_validator(mode="after")
    def _declares_what_its_meters_measure(self) -> "SiteAnswers":
        batteries = [battery.battery_id for battery in self.batteries]
        for meter in self.meters:
            if meter.battery_id is not None and meter.battery_id not in batteries:
                raise PydanticCustomError(
                    "battery",
                    "found battery_id {battery} of meter {meter}, expected one of {batteries}:"
                    " correct it",
                    {
                        "battery": meter.battery_id,
                        "meter": meter.meter_id,
                        "batteries": ", ".join(batteries) or "batteries, of which there is none",
                    },
                )
        return self


class CloudAnswers(Answers):
    """A public cloud, known by its bill."""

    site_id: Identifier
    """Short name of the cloud venue, such as cloud-south"""
    country_code: CountryCode
    """Country of its region in two capital letters, such as US"""
    currency_code: Currency | None = None
    """Currency of its bill, where it is not the reporting currency"""
    provider_name: Name
    """ProviderName of the FOCUS bill"""
    region_id: Name
    """RegionId of the FOCUS bill"""
    gpus_per_instance: Annotated[dict[str, Annotated[int, Field(gt=0)]], Field(min_length=1)]
    """GPUs of a machine by its SkuId on the bill, as SKU-1=8, SKU-2=1"""


class OrganizationAnswers(Answers):
    """Your organization."""

    organization_id: Identifier
    """Short name of your organization, such as acme"""
    name: Name | None = None
    """Name of the organization as people read it, where it is another"""
    reporting_currency: Currency
    """Currency of all money in the book, such as EUR"""
    time_zone: TimeZone
    """IANA time zone of the organization's weeks, such as Europe/Paris"""
    first_day: date
    """First day that you have data of, as 2026-01-01; what is older is refused"""
    gpu_models: list[GpuAnswers] = Field(default_factory=list)
    """GPU models that your sites have"""
    sites: list[SiteAnswers] = Field(default_factory=list)
    """Sites with a grid connection"""
    clouds: list[CloudAnswers] = Field(default_factory=list)
    """Public clouds whose bill you get in FOCUS"""
    exchange_rates: dict[Currency, Positive] = Field(default_factory=dict)
    """What one of each other currency was worth in the reporting currency on the first day, as
    USD=0.86"""

    @model_validator(mode="after")
    def _is_somewhere(self) -> "OrganizationAnswers":
        if not self.sites and not self.clouds:
            raise PydanticCustomError(
                "sites", "found neither sites nor clouds, expected one at least: add it"
            )
        return self

    @model_validator(mode="after")
    def _names_each_once(self) -> "OrganizationAnswers":
        for what, names in _names(self):
            for name, count in Counter(names).items():
                if count > 1:
                    raise PydanticCustomError(
                        "twice",
                        "found {what} {name} twice, expected it once: rename one",
                        {"what": what, "name": name},
                    )
        return self

    @model_validator(mode="after")
    def _declares_its_gpus(self) -> "OrganizationAnswers":
        known = [one.gpu_model for one in self.gpu_models]
        for site in self.sites:
            for nodes in site.nodes:
                if nodes.gpu_model not in known:
                    raise PydanticCustomError(
                        "gpu_model",
                        "found gpu_model {found} at site {site}, expected one of gpu_models:"
                        " {known}",
                        {
                            "found": nodes.gpu_model,
                            "site": site.site_id,
                            "known": ", ".join(known) or "there is none",
                        },
                    )
        return self

    @model_validator(mode="after")
    def _knows_every_currency(self) -> "OrganizationAnswers":
        missing = [code for code in other_currencies(self) if code not in self.exchange_rates]
        if missing:
            raise PydanticCustomError(
                "exchange_rates",
                "found prices in {currency} without its rate in exchange_rates, expected what one"
                " {currency} was worth in {reporting} on {day}: add it",
                {
                    "currency": missing[0],
                    "reporting": self.reporting_currency,
                    "day": self.first_day.isoformat(),
                },
            )
        return self


def other_currencies(answers: OrganizationAnswers) -> list[str]:
    """Currencies of sites and clouds that are not the reporting currency."""
    of_sites = {site.currency_code for site in answers.sites}
    of_clouds = {cloud.currency_code for cloud in answers.clouds}
    codes = (of_sites | of_clouds) - {None, answers.reporting_currency}
    return sorted(code for code in codes if code is not None)


def contract_ids(site: SiteAnswers) -> list[str]:
    """Short names of the contracts that a site's answers come to."""
    named = {
        "grid": site.grid_contract,
        "supply": site.supply,
        "allocation": site.allocation,
    }
    made = [f"{site.site_id}-{name}" for name, contract in named.items() if contract is not None]
    return [*made, *(ppa.contract_id for ppa in site.ppas)]


def flow_of(meter: MeterAnswers) -> Literal["import", "export"]:
    """The direction in which a meter of its role usually counts, unless another is told."""
    usually: Literal["import", "export"] = (
        "export"
        if meter.role in ("grid_export", "onsite_generation", "battery_discharge")
        else "import"
    )
    return meter.flow or usually


def _names(answers: OrganizationAnswers) -> Iterator[tuple[str, list[str]]]:
    """What has to be told apart, by what it is called."""
    sites = answers.sites
    yield "site_id", [*(one.site_id for one in sites), *(one.site_id for one in answers.clouds)]
    yield "gpu_model", [one.gpu_model for one in answers.gpu_models]
    yield "battery_id", [battery.battery_id for site in sites for battery in site.batteries]
    yield "cluster", [site.scheduler.cluster for site in sites if site.scheduler is not None]
    yield "contract_id", [name for site in sites for name in contract_ids(site)]
    plants = [ppa.meter_id for site in sites for ppa in site.ppas if ppa.meter_id is not None]
    yield (
        "meter",
        [f"{meter.meter_id} ({flow_of(meter)})" for site in sites for meter in site.meters]
        + [f"{meter_id} (export)" for meter_id in plants],
    )
    yield (
        "host name",
        [
            name
            for site in sites
            for nodes in site.nodes
            for hosts in nodes.hostnames
            for name in expand_hostlist(hosts)
        ],
    )


def _is_eic(text: str) -> bool:
    return re.fullmatch(EIC_PATTERN, text) is not None
