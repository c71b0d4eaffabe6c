"""Reference data: what people declare and review, validated and flattened for the warehouse.

What belongs here: the models of the YAML and CSV files below `data/reference`, the checks across
files, and their flat tables in the lake. What does not: anything measured, and any computation with
the values (dbt).

A reference folder is right as a whole or not loaded at all: `load` raises one error that lists
every mistake with its file, line where there is one, field, what was found and how to mend it.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from pipelines.errors import BookError
from pipelines.files import write_parquet
from pipelines.settings import Book

_INSTANT = pl.Datetime("us", "UTC")
_Place = Sequence[str | int]
"""Where a field stands in its document: names of fields and indexes of lists."""
_TIME_ZONES = available_timezones()


class ReferenceErrors(BookError):  # noqa: N818 - it carries all mistakes of a folder
    """Every mistake in the reference data, one cause a line."""


def _known_time_zone(name: str) -> str:
    if name not in _TIME_ZONES:
        raise PydanticCustomError(
            "time_zone", "expected an IANA time zone such as Europe/Berlin: correct the name"
        )
    return name


def _month(text: str) -> str:
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text):
        raise PydanticCustomError("month", "expected a month as 2026-04")
    return text


TimeZone = Annotated[str, AfterValidator(_known_time_zone)]
Month = Annotated[str, AfterValidator(_month)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
Identifier = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Efficiency = Annotated[float, Field(gt=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
VenueKind = Literal["own_site", "hpc_allocation", "public_cloud"]
Basis = Literal["direct", "life_cycle"]


class _Model(BaseModel):
    """A mapping of a reference file: unknown fields and values of another type are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Dated(_Model):
    """Something that holds from a local date on, up to and without another."""

    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None

    @model_validator(mode="after")
    def _is_forward(self) -> "_Dated":
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise PydanticCustomError(
                "validity", "expected valid_to after valid_from: correct one of the two"
            )
        return self


class _Terms(_Dated):
    """Terms that have to say since when they hold."""

    valid_from: date


class Zone(_Model):
    """A bidding zone, hub or carbon zone that other files may name."""

    zone: str
    kind: Literal["bidding", "carbon"]
    name: str


class Organization(_Model):
    """The organization whose book this is."""

    organization_id: Identifier
    name: str
    time_zone: TimeZone
    reporting_currency: Currency
    emission_factor_basis: Basis
    zones: list[Zone]


class GpuModel(_Model):
    """Power of one GPU when idle and at its limit, and what making it emitted."""

    gpu_model: Identifier
    idle_w: Amount
    peak_w: Annotated[float, Field(gt=0)]
    embodied_kg: Amount
    lifetime_hours: Annotated[float, Field(gt=0)]


class NodeGroup(_Model):
    """Nodes of one kind: host names are the prefix and a number of so many digits."""

    name_prefix: str
    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0, le=999_999)]
    digits: Annotated[int, Field(ge=1, le=9)]
    gpus_per_node: Annotated[int, Field(ge=0, le=64)]
    gpu_model: str
    host_idle_w: Amount
    host_peak_w: Amount


class SiteTerms(_Terms):
    """Connection, limits and commitments of a site while they hold."""

    grid_firm_mw: Amount
    grid_non_firm_mw: Amount
    electrical_limit_mw: Amount
    cooling_limit_mw: Amount
    it_capacity_mw: Amount
    design_pue: Annotated[float, Field(ge=1)]
    variable_cost_per_gpu_hour: Amount
    local_committed_mw: Amount
    is_local_islandable: bool
    sustain_hours: Annotated[float, Field(gt=0)] = 1
    price_stop_per_mwh: float | None = None


class Battery(_Terms):
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


class CloudVenue(_Model):
    """How the bill of a public cloud names this venue and its GPU machines."""

    provider_name: str
    region_id: str
    gpus_per_instance: dict[str, Annotated[int, Field(gt=0)]]


class Site(_Model):
    """A venue where workloads run."""

    site_id: Identifier
    name: str
    venue_kind: VenueKind
    country_code: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    time_zone: TimeZone
    bidding_zone: str | None = None
    price_market: Literal["day_ahead", "real_time"] | None = None
    price_sequence: Annotated[int, Field(ge=1)] | None = None
    carbon_zone: str | None = None
    currency_code: Currency
    clusters: list[str] = []
    grid_event_target: str | None = None
    node_groups: list[NodeGroup] = []
    terms: list[SiteTerms] = []
    batteries: list[Battery] = []
    cloud: CloudVenue | None = None

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


class Meter(_Dated):
    """One flow of a meter and the part it plays in its site's balance."""

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
    energy_source: str | None = None
    battery_id: str | None = None
    contract_id: str | None = None
    variable_cost_per_mwh: Amount | None = None


class PriceTerms(_Terms):
    """Price of a power purchase agreement and its clause for negative prices."""

    price_per_mwh: float
    negative_price_clause: Literal["none", "no_volume", "zero_floor"]


class AllocationTerms(_Terms):
    """Node-hours granted and what one is charged, or reckoned, at."""

    node_hours: Amount
    price_per_node_hour: Amount
    is_shadow_price: bool


class _Contract(_Model):
    contract_id: Identifier
    name: str
    site_id: str
    counterparty: str
    time_zone: TimeZone
    currency_code: Currency


class _PlantContract(_Contract):
    plant_meter_id: str
    plant_capacity_mw: Annotated[float, Field(gt=0)]
    share_of_plant: Share
    settlement_zone: str
    market: Literal["day_ahead", "real_time"]
    energy_source: str
    are_certificates_bundled: bool
    terms: Annotated[list[PriceTerms], Field(min_length=1)]


class PayAsProducedPpa(_PlantContract):
    """Physical PPA: the buyer takes and pays its share of what the plant produced."""

    kind: Literal["ppa_pay_as_produced"]


class VirtualPpa(_PlantContract):
    """Financial PPA: strike against floating price on the buyer's share of the production."""

    kind: Literal["vppa_cfd"]


class HpcAllocation(_Contract):
    """Node-hours on a sovereign machine."""

    kind: Literal["hpc_allocation"]
    terms: Annotated[list[AllocationTerms], Field(min_length=1)]


Contract = Annotated[PayAsProducedPpa | VirtualPpa | HpcAllocation, Field(discriminator="kind")]


class TariffPeriod(_Model):
    """Local months (inclusive) and hours (half-open) in which an energy price holds."""

    # YAML has lists only, which a strict model does not take for a pair.
    months: Annotated[
        tuple[Annotated[int, Field(ge=1, le=12)], Annotated[int, Field(ge=1, le=12)]],
        Field(strict=False),
    ]
    hours: Annotated[
        tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=1, le=24)]],
        Field(strict=False),
    ]
    energy_price_per_mwh: float


class Tariff(_Terms):
    """What a site pays for energy from the grid besides its contracts."""

    site_id: str
    currency_code: Currency
    price_basis: Literal["spot", "fixed"]
    network_per_mwh: Amount
    levies_per_mwh: Amount
    demand_charge_per_kw: Amount
    export_price_per_mwh: float | None = None
    periods: Annotated[list[TariffPeriod], Field(min_length=1)]


class Workload(_Model):
    """What runs, how much it minds waiting, and where it may run."""

    workload_id: Identifier
    name: str
    criticality: Literal["sensitive", "tolerant"]
    max_deferral_hours: Amount
    allowed_venues: list[VenueKind]
    value_per_lost_gpu_hour: Amount


class WorkloadRule(_Model):
    """Job attributes that make a job part of a workload; one left out matches anything."""

    cluster: str = "*"
    partition: str = "*"
    qos: str = "*"
    account: str = "*"
    workload_id: str


class Commitment(_Model):
    """IT power promised at a site from a local month on."""

    site_id: str
    from_month: Month
    committed_it_mw: Amount


class EmissionFactor(_Terms):
    """Grams CO2e per kWh of a production type, or of a zone's residual mix."""

    factor_id: Identifier
    kind: Literal["residual_mix", "production_type"]
    zone: str | None = None
    energy_source: str | None = None
    basis: Basis
    value_g_per_kwh: Amount
    source: str
    version: str
    is_marginal: bool

    @model_validator(mode="after")
    def _names_what_it_is_for(self) -> "EmissionFactor":
        needed = "zone" if self.kind == "residual_mix" else "energy_source"
        if getattr(self, needed) is None:
            raise PydanticCustomError(
                "factor", "a {kind} needs {needed}", {"kind": self.kind, "needed": needed}
            )
        return self


class Target(_Model):
    """What a KPI should reach, everywhere or at one site."""

    kpi_id: str
    site_id: str | None = None
    target: float
    direction: Literal["at_least", "at_most"]


class _GpuModels(_Model):
    gpu_models: list[GpuModel]


class _Meters(_Model):
    meters: list[Meter]


class _Tariffs(_Model):
    tariffs: list[Tariff]


class _Workloads(_Model):
    workloads: list[Workload]
    rules: list[WorkloadRule]


class CapacityPlan(_Model):
    """Commitments; each holds until the site's next one, the last until `until`."""

    until: Month
    commitments: list[Commitment]


class _EmissionFactors(_Model):
    factors: list[EmissionFactor]


class _Targets(_Model):
    targets: list[Target]


@dataclass(frozen=True)
class Reference:
    """All reference data of a book, valid as a whole."""

    organization: Organization
    gpu_models: list[GpuModel]
    sites: list[Site]
    meters: list[Meter]
    contracts: list[PayAsProducedPpa | VirtualPpa | HpcAllocation]
    tariffs: list[Tariff]
    workloads: list[Workload]
    rules: list[WorkloadRule]
    capacity_plan: CapacityPlan
    emission_factors: list[EmissionFactor]
    targets: list[Target]
    fx_rates: pl.DataFrame
    """rate_date, currency_code, rate_to_reporting: one row per date and currency."""


@dataclass(frozen=True)
class _Document:
    """A YAML file: its value, and the line of every field."""

    name: str
    value: Any
    lines: dict[tuple[str | int, ...], int]

    def line(self, place: _Place) -> int | None:
        """The line of a field, or of the nearest mapping around it that is there."""
        for length in range(len(place), -1, -1):
            if tuple(place[:length]) in self.lines:
                return self.lines[tuple(place[:length])]
        return None


class _Mistakes:
    """Collects what is wrong, one sentence per mistake."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def add(self, document: _Document, place: _Place, what: str) -> None:
        line = document.line(place)
        where = document.name if line is None else f"{document.name}:{line}"
        field = ".".join(str(part) for part in place)
        self.causes.append(f"{where}: {field}: {what}" if field else f"{where}: {what}")


def load(reference_dir: Path) -> Reference:
    """Read and check a reference folder.

    What one file says about another is checked once every file is right by itself.

    Raises:
        ReferenceErrors: Every mistake found; nothing is loaded.
    """
    mistakes = _Mistakes()
    read = _Reader(reference_dir, mistakes)
    organization = read.one("organization.yml", Organization)
    gpu_models = read.one("gpu_models.yml", _GpuModels)
    sites = read.each("sites", TypeAdapter(Site))
    meters = read.one("meters.yml", _Meters)
    contracts = read.each("contracts", TypeAdapter(Contract))
    tariffs = read.one("tariffs.yml", _Tariffs)
    workloads = read.one("workloads.yml", _Workloads)
    capacity_plan = read.one("capacity_plan.yml", CapacityPlan)
    factors = read.one("emission_factors.yml", _EmissionFactors)
    targets = read.one("targets.yml", _Targets)
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
    _CrossChecks(reference, read.documents, mistakes).run()
    if mistakes.causes:
        raise ReferenceErrors(mistakes.causes)
    return reference


class _Reader:
    """Reads the files of a folder and remembers where everything stood."""

    def __init__(self, folder: Path, mistakes: _Mistakes) -> None:
        self.folder = folder
        self.mistakes = mistakes
        self.documents: dict[str, _Document] = {}

    def one(self, name: str, model: type[BaseModel]) -> Any:
        """The checked content of a file, None where it has a mistake."""
        path = self.folder / name
        if not path.is_file():
            self.mistakes.causes.append(f"{name}: not found in {self.folder}: add the file")
            return None
        return self._read(path, name, TypeAdapter(model))

    def each(self, folder: str, adapter: TypeAdapter[Any]) -> list[Any]:
        """The checked contents of the YAML files of a folder, in order of their names."""
        files = sorted((self.folder / folder).glob("*.yml"))
        return [self._read(path, f"{folder}/{path.name}", adapter) for path in files]

    def _read(self, path: Path, name: str, adapter: TypeAdapter[Any]) -> Any:
        try:
            text = path.read_text(encoding="utf-8")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            value = yaml.safe_load(text)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            self.mistakes.causes.append(f"{name}: is not YAML: {error}")
            return None
        document = _Document(name, value, dict(_lines(node, ())))
        self.documents[name] = document
        for repeated in _repeated_fields(node, ()):
            self.mistakes.add(
                document, repeated, "found twice, expected once: remove one of the two"
            )
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            for problem in error.errors():
                place = _place(problem["loc"], value)
                self.mistakes.add(document, place, _sentence(problem))
            return None


def _lines(
    node: yaml.Node | None, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if node is None:
        return
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            for inner, line in _lines(child, (*place, key.value)):
                yield inner, key.start_mark.line + 1 if inner == (*place, key.value) else line
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _lines(child, (*place, index))


def _repeated_fields(
    node: yaml.Node | None, place: tuple[str | int, ...]
) -> Iterator[tuple[str | int, ...]]:
    """Fields given twice in one mapping, of which YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        yield from ((*place, name) for name in _repeated(key.value for key, _ in node.value))
        for key, child in node.value:
            yield from _repeated_fields(child, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _repeated_fields(child, (*place, index))


def _place(location: tuple[str | int, ...], value: Any) -> list[str | int]:
    """The location without the names of union members, which stand in no file."""
    place: list[str | int] = []
    for part in location:
        if isinstance(value, dict) and part not in value and part == value.get("kind"):
            continue
        place.append(part)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = None
    return place


def _sentence(problem: Any) -> str:
    """Found, expected, and how to mend it."""
    if problem["type"] == "missing":
        return "not found, expected a value: add the field"
    if problem["type"] == "extra_forbidden":
        return "found an unknown field: remove it or correct its name"
    message = problem["msg"]
    found = problem["input"]
    shown = "" if isinstance(found, dict | list | BaseModel) else f"found {found!r}; "
    return f"{shown}{message[0].lower()}{message[1:]}"


def _read_fx_rates(path: Path, mistakes: _Mistakes) -> pl.DataFrame:
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


class _CrossChecks:
    """What no single file can show: names that nothing declares, overlaps, doubles, gaps."""

    def __init__(
        self, reference: Reference, documents: dict[str, _Document], mistakes: _Mistakes
    ) -> None:
        self.reference = reference
        self.documents = documents
        self.mistakes = mistakes
        self.sites = {site.site_id: site for site in reference.sites}
        self.currencies = set(reference.fx_rates["currency_code"])
        self.zones = {
            kind: {zone.zone for zone in reference.organization.zones if zone.kind == kind}
            for kind in ("bidding", "carbon")
        }

    def run(self) -> None:
        """Every check, in the order in which one would read the files."""
        self._sites()
        self._names_declared_once()
        self._meters()
        self._contracts()
        self._tariffs()
        self._workloads()
        self._capacity_plan()
        self._emission_factors()
        self._targets()
        self._fx_rates()

    def _sites(self) -> None:
        gpu_models = {model.gpu_model for model in self.reference.gpu_models}
        for site, document in zip(self.reference.sites, self._files("sites/"), strict=True):
            self._zone(document, "bidding_zone", site.bidding_zone, "bidding")
            self._zone(document, "carbon_zone", site.carbon_zone, "carbon")
            self._currency(document, ["currency_code"], site.currency_code)
            self._no_overlap(document, ["terms"], site.terms)
            for index, group in enumerate(site.node_groups):
                place: _Place = ["node_groups", index, "gpu_model"]
                self._known(document, place, group.gpu_model, gpu_models, "gpu_models.yml")

    def _names_declared_once(self) -> None:
        sites = self.reference.sites
        for what, names in (
            ("site_id", [site.site_id for site in sites]),
            ("contract_id", [contract.contract_id for contract in self.reference.contracts]),
            ("cluster", [cluster for site in sites for cluster in site.clusters]),
            ("battery_id", [b.battery_id for site in sites for b in site.batteries]),
        ):
            for name in _repeated(names):
                self.mistakes.causes.append(
                    f"{what} {name!r} is declared twice, expected once: rename one"
                )
        # A mistyped range repeats thousands of names; the first few show it.
        for name in _repeated([name for site in sites for name in _hostnames(site)])[:5]:
            self.mistakes.causes.append(
                f"host name {name!r} belongs to several node_groups: number them apart"
            )

    def _meters(self) -> None:
        document = self.documents["meters.yml"]
        contracts = {contract.contract_id for contract in self.reference.contracts}
        by_flow: dict[tuple[str, str], list[int]] = {}
        for index, meter in enumerate(self.reference.meters):
            place: _Place = ["meters", index]
            by_flow.setdefault((meter.meter_id, meter.flow), []).append(index)
            self._site(document, [*place, "site_id"], meter.site_id)
            site = self.sites.get(meter.site_id)
            if site is not None:
                batteries = {battery.battery_id for battery in site.batteries}
                where = f"batteries of site {site.site_id}"
                self._known(document, [*place, "battery_id"], meter.battery_id, batteries, where)
            contract_place = [*place, "contract_id"]
            self._known(document, contract_place, meter.contract_id, contracts, "contracts/")
            needed = {
                "battery_id": meter.role.startswith("battery_"),
                "contract_id": meter.role == "ppa_generation",
                "energy_source": meter.role.endswith("generation"),
            }
            for name, is_needed in needed.items():
                if is_needed and getattr(meter, name) is None:
                    self.mistakes.add(
                        document,
                        [*place, name],
                        f"not found, expected it of a {meter.role} meter: add the field",
                    )
        for (meter_id, flow), indexes in by_flow.items():
            for _, later in self._overlaps(self.reference.meters, indexes):
                self.mistakes.add(
                    document,
                    ["meters", later],
                    f"found meter_id {meter_id!r}, flow {flow!r} declared twice for"
                    f" {self.reference.meters[later].valid_from}, expected once: end the earlier"
                    " with valid_to",
                )

    def _contracts(self) -> None:
        plants = {m.meter_id for m in self.reference.meters if m.role == "ppa_generation"}
        documents = self._files("contracts/")
        for contract, document in zip(self.reference.contracts, documents, strict=True):
            self._site(document, ["site_id"], contract.site_id)
            self._currency(document, ["currency_code"], contract.currency_code)
            self._no_overlap(document, ["terms"], contract.terms)
            if isinstance(contract, _PlantContract):
                self._zone(document, "settlement_zone", contract.settlement_zone, "bidding")
                if contract.plant_meter_id not in plants:
                    self.mistakes.add(
                        document,
                        ["plant_meter_id"],
                        f"found {contract.plant_meter_id!r}, expected a meter with role"
                        " ppa_generation in meters.yml",
                    )

    def _tariffs(self) -> None:
        document = self.documents["tariffs.yml"]
        by_site: dict[str, list[int]] = {}
        for index, tariff in enumerate(self.reference.tariffs):
            place: _Place = ["tariffs", index]
            by_site.setdefault(tariff.site_id, []).append(index)
            self._site(document, [*place, "site_id"], tariff.site_id)
            self._currency(document, [*place, "currency_code"], tariff.currency_code)
            prices = Counter(
                (month, hour)
                for period in tariff.periods
                for month in range(period.months[0], period.months[1] + 1)
                for hour in range(*period.hours)
            )
            wrong = [(m, h) for m in range(1, 13) for h in range(24) if prices[m, h] != 1]
            if wrong:
                month, hour = wrong[0]
                self.mistakes.add(
                    document,
                    [*place, "periods"],
                    f"found {prices[month, hour]} prices for month {month}, hour {hour}, expected"
                    " one for each of the 12 x 24: correct months and hours",
                )
            site = self.sites.get(tariff.site_id)
            if tariff.price_basis == "spot" and site is not None and site.price_market is None:
                self.mistakes.add(
                    document,
                    [*place, "price_basis"],
                    f"found 'spot', expected price_market in the file of site {site.site_id}",
                )
        for site_id, indexes in by_site.items():
            for _, later in self._overlaps(self.reference.tariffs, indexes):
                self.mistakes.add(
                    document,
                    ["tariffs", later],
                    f"found two tariffs of site {site_id} for"
                    f" {self.reference.tariffs[later].valid_from}, expected one: end the earlier"
                    " with valid_to",
                )

    def _workloads(self) -> None:
        document = self.documents["workloads.yml"]
        names = [workload.workload_id for workload in self.reference.workloads]
        self._no_double(document, "workloads", names)
        for index, rule in enumerate(self.reference.rules):
            place: _Place = ["rules", index, "workload_id"]
            self._known(document, place, rule.workload_id, set(names), "workloads")
        if "unassigned" not in names:
            self.mistakes.add(
                document,
                ["workloads"],
                "not found 'unassigned', expected it for jobs that no rule matches",
            )

    def _capacity_plan(self) -> None:
        document = self.documents["capacity_plan.yml"]
        commitments = self.reference.capacity_plan.commitments
        for index, commitment in enumerate(commitments):
            self._site(document, ["commitments", index, "site_id"], commitment.site_id)
        keys = [(commitment.site_id, commitment.from_month) for commitment in commitments]
        self._no_double(document, "commitments", keys)

    def _emission_factors(self) -> None:
        document = self.documents["emission_factors.yml"]
        factors = self.reference.emission_factors
        by_factor: dict[tuple[str, str], list[int]] = {}
        for index, factor in enumerate(factors):
            by_factor.setdefault((factor.factor_id, factor.basis), []).append(index)
            where = "zones of organization.yml"
            place: _Place = ["factors", index, "zone"]
            self._known(document, place, factor.zone, self.zones["carbon"], where)
        for (factor_id, basis), indexes in by_factor.items():
            for _, later in self._overlaps(factors, indexes):
                self.mistakes.add(
                    document,
                    ["factors", later],
                    f"found factor_id {factor_id!r}, basis {basis!r} declared twice for"
                    f" {factors[later].valid_from}, expected once: end the earlier with valid_to",
                )

    def _targets(self) -> None:
        document = self.documents["targets.yml"]
        for index, target in enumerate(self.reference.targets):
            self._site(document, ["targets", index, "site_id"], target.site_id)
        keys = [(target.kpi_id, target.site_id) for target in self.reference.targets]
        self._no_double(document, "targets", keys)

    def _fx_rates(self) -> None:
        rates = self.reference.fx_rates
        days = rates.select(pl.date_range(pl.col("rate_date").min(), pl.col("rate_date").max()))
        for currency in sorted(self.currencies | {self.reference.organization.reporting_currency}):
            own = rates.filter(pl.col("currency_code") == currency)
            missing = days.join(own, on="rate_date", how="anti")["rate_date"].sort()
            if len(missing):
                self.mistakes.causes.append(
                    f"fx_rates.csv: no {currency} rate for {missing[0]} ({len(missing)} days"
                    " missing): add every day"
                )

    def _files(self, folder: str) -> list[_Document]:
        return [item for name, item in self.documents.items() if name.startswith(folder)]

    def _known(
        self,
        document: _Document,
        place: _Place,
        name: str | None,
        names: Collection[str],
        where: str,
    ) -> None:
        if name is not None and name not in names:
            self.mistakes.add(
                document, place, f"found {name!r}, expected a name declared in {where}"
            )

    def _site(self, document: _Document, place: _Place, site_id: str | None) -> None:
        self._known(document, place, site_id, self.sites, "sites/")

    def _currency(self, document: _Document, place: _Place, code: str) -> None:
        self._known(document, place, code, self.currencies, "fx_rates.csv")

    def _zone(self, document: _Document, field: str, zone: str | None, kind: str) -> None:
        self._known(document, [field], zone, self.zones[kind], "zones of organization.yml")

    def _overlaps(
        self, dated: Sequence[_Dated], indexes: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """(earlier, later) of neighbours in time of which the later begins too soon."""
        order = sorted(indexes, key=lambda index: dated[index].valid_from)
        for earlier, later in pairwise(order):
            end = dated[earlier].valid_to
            if end is None or end > dated[later].valid_from:
                yield earlier, later

    def _no_overlap(self, document: _Document, place: _Place, dated: Sequence[_Dated]) -> None:
        for earlier, later in self._overlaps(dated, range(len(dated))):
            self.mistakes.add(
                document,
                [*place, later, "valid_from"],
                f"found {dated[later].valid_from}, expected no overlap with the terms from"
                f" {dated[earlier].valid_from} to {dated[earlier].valid_to or 'open'}: end those"
                " first",
            )

    def _no_double(self, document: _Document, field: str, keys: Sequence[Any]) -> None:
        for key in _repeated(keys):
            last = max(index for index, other in enumerate(keys) if other == key)
            self.mistakes.add(document, [field, last], f"found {key!r} twice, expected it once")


def _repeated(names: Iterable[Any]) -> list[Any]:
    return [name for name, count in Counter(names).items() if count > 1]


def _hostnames(site: Site) -> Iterator[str]:
    for group in site.node_groups:
        for number in range(group.first, group.last + 1):
            yield f"{group.name_prefix}{number:0{group.digits}d}"


def flatten(reference: Reference) -> dict[str, pl.DataFrame]:
    """The reference data as flat tables, one row per entity and version of its terms.

    Local dates become the UTC instants at which they begin (`valid_from_at`, `valid_to_at`).
    """
    site_zone = {site.site_id: site.time_zone for site in reference.sites}
    organization_zone = reference.organization.time_zone
    site_fields = (
        "site_id",
        "name",
        "venue_kind",
        "country_code",
        "time_zone",
        "bidding_zone",
        "price_market",
        "price_sequence",
        "carbon_zone",
        "currency_code",
        "grid_event_target",
    )
    rows: dict[str, list[dict[str, Any]]] = {
        "organization": [reference.organization.model_dump(exclude={"zones"})],
        "gpu_models": [model.model_dump() for model in reference.gpu_models],
        "sites": [
            {**{name: getattr(site, name) for name in site_fields}, **_dated(terms, site.time_zone)}
            for site in reference.sites
            for terms in (site.terms or (None,))
        ],
        "clusters": [
            {"cluster": cluster, "site_id": site.site_id, "time_zone": site.time_zone}
            for site in reference.sites
            for cluster in site.clusters
        ],
        "nodes": list(_node_rows(reference)),
        "batteries": [
            {"site_id": site.site_id, **_dated(battery, site.time_zone)}
            for site in reference.sites
            for battery in site.batteries
        ],
        "cloud_skus": [
            {
                "site_id": site.site_id,
                "provider_name": site.cloud.provider_name,
                "region_id": site.cloud.region_id,
                "sku_id": sku_id,
                "gpu_count": gpu_count,
            }
            for site in reference.sites
            if site.cloud
            for sku_id, gpu_count in site.cloud.gpus_per_instance.items()
        ],
        "meters": [_dated(meter, site_zone[meter.site_id]) for meter in reference.meters],
        "contracts": [
            {**contract.model_dump(exclude={"terms"}), **_dated(terms, contract.time_zone)}
            for contract in reference.contracts
            for terms in contract.terms
        ],
        "tariffs": [
            {
                **_dated(tariff, site_zone[tariff.site_id], without={"periods"}),
                "month_from": period.months[0],
                "month_to": period.months[1],
                "hour_from": period.hours[0],
                "hour_to": period.hours[1],
                "energy_price_per_mwh": period.energy_price_per_mwh,
            }
            for tariff in reference.tariffs
            for period in tariff.periods
        ],
        "workloads": [workload.model_dump() for workload in reference.workloads],
        "workload_rules": [
            {"rule_order": order, **rule.model_dump()}
            for order, rule in enumerate(reference.rules, start=1)
        ],
        "capacity_plan": list(_plan_rows(reference.capacity_plan)),
        "emission_factors": [
            _dated(factor, organization_zone) for factor in reference.emission_factors
        ],
        "fx_rates": reference.fx_rates.rows(named=True),
        "targets": [target.model_dump() for target in reference.targets],
    }
    return {name: pl.DataFrame(rows[name], schema=schema) for name, schema in TABLES.items()}


_TEXT, _NUMBER, _COUNT, _FLAG = pl.String(), pl.Float64(), pl.Int64(), pl.Boolean()


def _columns(**kinds: str) -> dict[str, pl.DataType]:
    return {
        name: kind
        for kind_name, names in kinds.items()
        for name, kind in ((n, _KINDS[kind_name]) for n in names.split())
    }


_KINDS: dict[str, pl.DataType] = {
    "text": _TEXT,
    "number": _NUMBER,
    "count": _COUNT,
    "flag": _FLAG,
    "instant": _INSTANT,
    "day": pl.Date(),
    "texts": pl.List(pl.String()),
}

_VALIDITY = "valid_from_at valid_to_at"

TABLES: dict[str, dict[str, pl.DataType]] = {
    "organization": _columns(
        text="organization_id name time_zone reporting_currency emission_factor_basis"
    ),
    "gpu_models": _columns(text="gpu_model", number="idle_w peak_w embodied_kg lifetime_hours"),
    "sites": _columns(
        text="site_id name venue_kind country_code time_zone bidding_zone price_market carbon_zone"
        " currency_code grid_event_target",
        count="price_sequence",
        instant=_VALIDITY,
        number="grid_firm_mw grid_non_firm_mw electrical_limit_mw cooling_limit_mw it_capacity_mw"
        " design_pue variable_cost_per_gpu_hour local_committed_mw sustain_hours"
        " price_stop_per_mwh",
        flag="is_local_islandable",
    ),
    "clusters": _columns(text="cluster site_id time_zone"),
    "nodes": _columns(
        text="hostname site_id gpu_model",
        count="gpu_count",
        number="idle_w peak_w host_idle_w host_peak_w",
    ),
    "batteries": _columns(
        text="battery_id site_id chemistry power_sign",
        number="power_mw energy_mwh reserve_ratio charge_efficiency discharge_efficiency"
        " degradation_cost_per_mwh",
        instant=_VALIDITY,
    ),
    "cloud_skus": _columns(text="site_id provider_name region_id sku_id", number="gpu_count"),
    "meters": _columns(
        text="meter_id flow site_id role accuracy_class energy_source battery_id contract_id",
        number="multiplier variable_cost_per_mwh",
        instant=_VALIDITY,
    ),
    "contracts": _columns(
        text="contract_id kind name site_id counterparty time_zone plant_meter_id settlement_zone"
        " market currency_code energy_source negative_price_clause",
        number="plant_capacity_mw share_of_plant price_per_mwh node_hours price_per_node_hour",
        flag="are_certificates_bundled is_shadow_price",
        instant=_VALIDITY,
    ),
    "tariffs": _columns(
        text="site_id price_basis currency_code",
        instant=_VALIDITY,
        number="energy_price_per_mwh network_per_mwh levies_per_mwh demand_charge_per_kw"
        " export_price_per_mwh",
        count="month_from month_to hour_from hour_to",
    ),
    "workloads": _columns(
        text="workload_id name criticality",
        number="max_deferral_hours value_per_lost_gpu_hour",
        texts="allowed_venues",
    ),
    "workload_rules": _columns(
        count="rule_order", text="cluster partition qos account workload_id"
    ),
    "capacity_plan": _columns(text="site_id", day="month", number="committed_it_mw"),
    "emission_factors": _columns(
        text="factor_id zone energy_source kind basis source version",
        number="value_g_per_kwh",
        flag="is_marginal",
        instant=_VALIDITY,
    ),
    "fx_rates": _columns(day="rate_date", text="currency_code", number="rate_to_reporting"),
    "targets": _columns(text="kpi_id site_id direction", number="target"),
}
"""Flat table -> its columns, as `lake/reference/<table>.parquet` holds them."""


def _dated(terms: _Dated | None, time_zone: str, without: set[str] | None = None) -> dict[str, Any]:
    if terms is None:
        return {"valid_from_at": _local_midnight(date(1970, 1, 1), time_zone)}
    return {
        **terms.model_dump(exclude={"valid_from", "valid_to", *(without or ())}),
        "valid_from_at": _local_midnight(terms.valid_from, time_zone),
        "valid_to_at": terms.valid_to and _local_midnight(terms.valid_to, time_zone),
    }


def _local_midnight(day: date, time_zone: str) -> datetime:
    return datetime.combine(day, time(), tzinfo=ZoneInfo(time_zone)).astimezone(UTC)


def _node_rows(reference: Reference) -> Iterator[dict[str, Any]]:
    models = {model.gpu_model: model for model in reference.gpu_models}
    for site in reference.sites:
        for group in site.node_groups:
            model = models[group.gpu_model]
            for hostname in _hostnames(site.model_copy(update={"node_groups": [group]})):
                yield {
                    "hostname": hostname,
                    "site_id": site.site_id,
                    "gpu_count": group.gpus_per_node,
                    "gpu_model": group.gpu_model,
                    "idle_w": model.idle_w,
                    "peak_w": model.peak_w,
                    "host_idle_w": group.host_idle_w,
                    "host_peak_w": group.host_peak_w,
                }


def _plan_rows(plan: CapacityPlan) -> Iterator[dict[str, Any]]:
    for site_id in sorted({commitment.site_id for commitment in plan.commitments}):
        steps = sorted(
            (c.from_month, c.committed_it_mw) for c in plan.commitments if c.site_id == site_id
        )
        ends = [*(month for month, _ in steps[1:]), plan.until]
        for (start, committed), end in zip(steps, ends, strict=True):
            for month in pl.date_range(
                date.fromisoformat(f"{start}-01"),
                date.fromisoformat(f"{end}-01"),
                "1mo",
                closed="left",
                eager=True,
            ):
                yield {"site_id": site_id, "month": month, "committed_it_mw": committed}


def write_tables(book: Book) -> list[str]:
    """Check the reference data and write its flat tables to the lake, those that changed.

    Returns:
        Names of the tables that were written.

    Raises:
        ReferenceErrors: The reference data has a mistake; nothing is written.
    """
    written = []
    for name, frame in flatten(load(book.reference)).items():
        file = book.lake / "reference" / f"{name}.parquet"
        if not file.exists() or not pl.read_parquet(file).equals(frame):
            write_parquet(frame, file)
            written.append(name)
    return written
