"""The raw tables of the lake: one dataframely schema per table, declared once.

What belongs here: columns, types, ranges and natural keys of the raw tables, and the columns that
say where a row came from. What does not: parsing (`connectors/`), writing files (`batch.py`) and
anything that is computed from the rows (dbt).

Every time of a row lies within a reach, from so long before the book's first day to so long after
its file was first loaded, and every number within a range: wide enough for anything that can be,
so that what no device can have meant stops at its file. Whether a value is plausible where it was
measured is for dbt to judge, beside the reference data.

All times are UTC with microseconds. Units are those of the column's name; the tables that keep a
unit column (`meter_readings.unit`, `register_reads.unit`, `cloud_charges.consumed_unit`) are
converted in dbt staging, nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import dataframely as dy
import polars as pl


@dataclass(frozen=True)
class Reach:
    """How long before the book's first day and after its loading a time may lie; None is no end."""

    before: timedelta | None
    after: timedelta | None


_DAY = timedelta(days=1)
_YEAR = timedelta(days=366)
# Days begin earlier east of UTC, and clocks and zones may be off by less than a day.
_HAPPENED = Reach(_DAY, _DAY)
_UNDER_WAY = Reach(_YEAR, _DAY)
_HISTORY = Reach(10 * _YEAR, _DAY)
_AUCTIONED = Reach(10 * _YEAR, 3 * _DAY)
_BILLED = Reach(10 * _YEAR, 31 * _DAY)
_ISSUED = Reach(10 * _YEAR, _YEAR)
_PLANNED = Reach(_YEAR, 3 * _YEAR)
_COMMITTED = Reach(10 * _YEAR, 4 * _YEAR)
_OPEN_END = Reach(_YEAR, None)

MOST_SECONDS = 10 * 366 * 86_400

REACH = "reach"
"""Where a column's metadata says it."""


def _one_of(*values: str) -> dy.String:
    return dy.String(check=lambda column: column.is_in(values))


def _instant(
    reach: Reach, *, nullable: bool = False, description: str | None = None
) -> dy.Datetime:
    return dy.Datetime(
        time_zone="UTC", nullable=nullable, description=description, metadata={REACH: reach}
    )


def _within(limit: float, *, nullable: bool = False, at_least: float | None = None) -> dy.Float64:
    """A number of at most this size."""
    return dy.Float64(nullable=nullable, min=-limit if at_least is None else at_least, max=limit)


def _interval_is_forward() -> pl.Expr:
    return pl.col("interval_ended_at") > pl.col("interval_started_at")


class Provenance(dy.Schema):
    """Where a row came from and since when it is known; part of every raw table."""

    known_at = _instant(
        Reach(None, _DAY),
        description="When the source published the row, else when its file landed; never changes.",
    )
    loaded_at = _instant(
        Reach(None, _DAY),
        nullable=True,
        description="When the file was first loaded, where the source says no time of publication.",
    )
    source_file = dy.String(
        description="Path below landing/, with !member for a file inside an archive."
    )
    source_row = dy.Int64(min=0, description="Ordinal of the row in its file, as parsed.")
    load_id = dy.String(
        regex="^[0-9a-f]{16}$", description="First 16 hex digits of the file's sha256."
    )
    load_number = dy.Int64(min=1, description="Place of the file in the order of loading.")


class GpuSamples(Provenance):
    """One row per GPU board and sample time, the metrics of that moment side by side."""

    sampled_at = _instant(_HAPPENED)
    hostname = dy.String(min_length=1)
    gpu_index = dy.String(
        min_length=1, description="Board index on its host; never a MIG instance."
    )
    power_w = dy.Float64(nullable=True, min=0, max=5000)
    energy_counter_millijoules = dy.Int64(nullable=True, min=0)
    utilization_ratio = dy.Float64(nullable=True, min=0, max=1)
    sm_clock_mhz = dy.Float64(nullable=True, min=0)
    power_limit_w = dy.Float64(nullable=True, min=0, description="The limit that is enforced.")
    default_power_limit_w = dy.Float64(
        nullable=True, min=0, description="The limit the board comes with."
    )
    power_violation_ns = dy.Int64(
        nullable=True, min=0, description="Counter: time held back by a power limit."
    )
    power_brake_ns = dy.Int64(
        nullable=True, min=0, description="Counter: time slowed by the power brake."
    )
    thermal_violation_ns = dy.Int64(
        nullable=True, min=0, description="Counter: time held back by temperature."
    )
    clocks_event_reasons = dy.Int64(
        nullable=True, min=0, description="NVML bit mask at the sample."
    )
    mig_busy_ratio = dy.Float64(
        nullable=True,
        min=0,
        description="Of a board in MIG mode the share in instances that are busy.",
    )
    mig_told_ratio = dy.Float64(
        nullable=True, min=0, description="The share in instances of which that is told."
    )
    namespace = dy.String(
        nullable=True, min_length=1, description="Kubernetes namespace of the pods that hold it."
    )
    pod = dy.String(
        nullable=True, min_length=1, description="The pod that holds it, where that is one alone."
    )
    is_shared = dy.Bool(
        nullable=True,
        description="Whether several pods hold it, or some its MIG instances; null where none is"
        " told.",
    )


class NodePowerSamples(Provenance):
    """One row per node and sample time."""

    sampled_at = _instant(_HAPPENED)
    hostname = dy.String(min_length=1)
    power_w = dy.Float64(min=0, max=50000)


class Jobs(Provenance):
    """One row per job allocation (never a job step)."""

    cluster = dy.String(min_length=1)
    job_id = dy.String(min_length=1)
    partition = dy.String(nullable=True)
    qos = dy.String(nullable=True)
    account = dy.String(nullable=True)
    user_name = dy.String(nullable=True)
    job_name = dy.String(nullable=True)
    state = dy.String(min_length=1, description="Slurm's base state in capitals, without 'by UID'.")
    submitted_at = _instant(_UNDER_WAY, nullable=True)
    started_at = _instant(_UNDER_WAY, nullable=True)
    ended_at = _instant(_HAPPENED, nullable=True)
    elapsed_s = dy.Int64(
        nullable=True,
        min=0,
        max=MOST_SECONDS,
        description="Time it ran, suspension left out; null where it runs and none was told.",
    )
    suspended_s = dy.Int64(
        nullable=True, min=0, max=MOST_SECONDS, description="Time it was suspended, if told."
    )
    node_count = dy.Int64(min=0, max=1_000_000)
    gpu_count = dy.Float64(
        nullable=True,
        min=0,
        max=10_000_000,
        description="Boards, a MIG instance as its share; null where it shows no GPUs at all.",
    )
    node_list = dy.String(nullable=True, description="Slurm host list expression, as received.")
    consumed_energy_j = dy.Int64(nullable=True, min=0, max=10**18)
    comment = dy.String(
        nullable=True, description="Reason left by the scheduler, e.g. energy:curtailment_order."
    )

    @dy.rule()
    def ends_after_start(cls) -> pl.Expr:
        """It ends no earlier than it starts."""
        return (pl.col("ended_at") >= pl.col("started_at")).fill_null(value=True)


class MeterReadings(Provenance):
    """One row per meter, flow and metered interval."""

    meter_id = dy.String(min_length=1)
    flow = _one_of("import", "export")
    interval_started_at = _instant(_HAPPENED)
    interval_ended_at = _instant(_HAPPENED)
    quantity = _within(1e12, nullable=True, at_least=0)
    unit = _one_of("Wh", "kWh", "MWh")
    quality = _one_of("measured", "estimated", "substituted", "missing")

    @dy.rule()
    def interval_is_forward(cls) -> pl.Expr:
        """The interval ends after it starts."""
        return _interval_is_forward()

    @dy.rule()
    def mean_power_at_most_100_gw(cls) -> pl.Expr:
        """No meter has more behind it."""
        kwh = pl.col("quantity") * pl.col("unit").replace_strict({"Wh": 1e-3, "kWh": 1, "MWh": 1e3})
        hours = (pl.col("interval_ended_at") - pl.col("interval_started_at")) / timedelta(hours=1)
        return (kwh <= 1e8 * hours).fill_null(value=True)

    @dy.rule()
    def quantity_unless_missing(cls) -> pl.Expr:
        """A reading has a quantity unless it is missing."""
        return (pl.col("quality") == "missing") == pl.col("quantity").is_null()


class RegisterReads(Provenance):
    """One row per meter, flow and time at which the register was read that counts on for ever."""

    meter_id = dy.String(min_length=1)
    flow = _one_of("import", "export")
    read_at = _instant(_HAPPENED)
    meter_serial = dy.String(
        nullable=True, description="Of the device; another one has a register of its own."
    )
    index_read = _within(1e12, at_least=0)
    unit = _one_of("Wh", "kWh", "MWh")


class BatterySamples(Provenance):
    """One row per battery and sample time; reference data pins the sign of `power_kw`."""

    battery_id = dy.String(min_length=1)
    sampled_at = _instant(_HAPPENED)
    state_of_charge_ratio = dy.Float64(nullable=True, min=0, max=1)
    power_kw = _within(1e7, nullable=True)
    available_charge_kw = _within(1e7, nullable=True, at_least=0)
    available_discharge_kw = _within(1e7, nullable=True, at_least=0)
    energy_capacity_kwh = _within(1e9, nullable=True, at_least=0)
    state = _one_of("charging", "discharging", "holding", "standby", "disconnected", "fault")


class MarketPrices(Provenance):
    """One row per zone, market, sequence and interval, in the currency of the source."""

    zone = dy.String(min_length=1)
    market = _one_of("day_ahead", "real_time")
    sequence = dy.Int64(min=1, description="Auction sequence of the source; 1 where it has none.")
    interval_started_at = _instant(_AUCTIONED)
    interval_ended_at = _instant(_AUCTIONED)
    price_per_mwh = _within(1e9)
    currency_code = dy.String(regex="^[A-Z]{3}$")

    @dy.rule()
    def interval_is_forward(cls) -> pl.Expr:
        """The interval ends after it starts."""
        return _interval_is_forward()


class ExchangeRates(Provenance):
    """One row per currency and day: the reference rate of a bank against the euro."""

    rate_date = dy.Date(metadata={REACH: _HISTORY})
    currency_code = dy.String(regex="^[A-Z]{3}$")
    units_per_euro = dy.Float64(min=1e-9, max=1e9, description="Units of it that a euro is worth.")
    data_source = dy.String(min_length=1, description="Whose series the rate is of.")


class GridGenerationMix(Provenance):
    """One row per zone, production type, direction and interval."""

    zone = dy.String(min_length=1)
    production_type = dy.String(regex="^B[0-9]{2}$", description="ENTSO-E PsrType, e.g. B16 solar.")
    direction = _one_of("generation", "consumption")
    interval_started_at = _instant(_HISTORY)
    interval_ended_at = _instant(_HISTORY)
    power_mw = _within(1e7)

    @dy.rule()
    def interval_is_forward(cls) -> pl.Expr:
        """The interval ends after it starts."""
        return _interval_is_forward()


class GridCarbon(Provenance):
    """One row per zone and interval: average intensity of the zone's consumption mix."""

    zone = dy.String(min_length=1)
    interval_started_at = _instant(_AUCTIONED)
    interval_ended_at = _instant(_AUCTIONED)
    direct_g_per_kwh = _within(1e4, nullable=True, at_least=0)
    life_cycle_g_per_kwh = _within(1e4, nullable=True, at_least=0)
    carbon_free_ratio = dy.Float64(nullable=True, min=0, max=1)
    renewable_ratio = dy.Float64(nullable=True, min=0, max=1)
    is_estimated = dy.Bool()
    data_source = dy.String(nullable=True)

    @dy.rule()
    def interval_is_forward(cls) -> pl.Expr:
        """The interval ends after it starts."""
        return _interval_is_forward()


class GridEvents(Provenance):
    """One row per event version. `target` is what a site declares as its `grid_event_target`."""

    event_id = dy.String(min_length=1)
    whole_event_id = dy.String(
        nullable=True,
        description="Event whose versions each tell all their rows; null if a row stands alone.",
    )
    program_id = dy.String(nullable=True, description="OpenADR program; null of other sources.")
    target = dy.String(min_length=1)
    event_type = _one_of("grid_outage", "curtailment_order", "alert")
    started_at = _instant(_PLANNED)
    ended_at = _instant(_OPEN_END, nullable=True, description="Null while the event is open.")
    import_limit_kw = _within(1e9, nullable=True, at_least=0)
    is_cancelled = dy.Bool()

    @dy.rule()
    def ends_after_start(cls) -> pl.Expr:
        """It ends no earlier than it starts."""
        return (pl.col("ended_at") > pl.col("started_at")).fill_null(value=True)

    @dy.rule()
    def curtailment_has_limit(cls) -> pl.Expr:
        """A curtailment order says to how much."""
        return (pl.col("event_type") != "curtailment_order") | pl.col(
            "import_limit_kw"
        ).is_not_null()


class GridEventListings(Provenance):
    """One row per listing of all events of an OpenADR program: those of its load, and no others."""

    program_id = dy.String(min_length=1)


class CloudCharges(Provenance):
    """One row per FOCUS charge line, in its billing currency."""

    provider_name = dy.String(min_length=1)
    billing_account_id = dy.String(min_length=1)
    sub_account_id = dy.String(nullable=True)
    billing_period_started_at = _instant(_COMMITTED)
    billing_period_ended_at = _instant(_COMMITTED)
    charge_period_started_at = _instant(_COMMITTED)
    charge_period_ended_at = _instant(_COMMITTED)
    charge_category = dy.String(min_length=1)
    charge_class = dy.String(nullable=True)
    charge_description = dy.String(nullable=True)
    service_category = dy.String(nullable=True)
    service_name = dy.String(nullable=True)
    sku_id = dy.String(nullable=True)
    region_id = dy.String(nullable=True)
    resource_id = dy.String(nullable=True)
    pricing_category = dy.String(nullable=True)
    pricing_quantity = _within(1e15, nullable=True)
    pricing_unit = dy.String(nullable=True)
    consumed_quantity = _within(1e15, nullable=True)
    consumed_unit = dy.String(nullable=True)
    list_unit_price = _within(1e15, nullable=True)
    contracted_unit_price = _within(1e15, nullable=True)
    billed_cost = _within(1e15)
    effective_cost = _within(1e15)
    list_cost = _within(1e15, nullable=True)
    contracted_cost = _within(1e15, nullable=True)
    currency_code = dy.String(regex="^[A-Z]{3}$")
    commitment_discount_id = dy.String(nullable=True)
    commitment_discount_category = dy.String(nullable=True)
    commitment_discount_type = dy.String(nullable=True)
    commitment_discount_status = dy.String(nullable=True)
    tags = dy.String(nullable=True, description="JSON object, as received.")


class Certificates(Provenance):
    """One row per bundle of energy attribute certificates, as its registry has it."""

    issuing_body = dy.String(min_length=1)
    issuance_id = dy.String(min_length=1, description="Stays the same when a bundle is split.")
    device_id = dy.String(nullable=True, description="Production device; null where not named.")
    first_certificate = dy.Int64(min=0, description="Number of the bundle's first certificate.")
    last_certificate = dy.Int64(min=0, description="Number of the last one, inclusive.")
    quantity_wh = dy.Int64(min=1, max=10**16)
    energy_source = dy.String(min_length=1)
    production_started_at = _instant(_ISSUED)
    production_ended_at = _instant(_ISSUED)
    expires_at = _instant(Reach(10 * _YEAR, None), nullable=True)
    is_storage = dy.Bool(description="Whether a storage device gave off the energy.")
    market_zone = dy.String(min_length=1, description="Zone for which the bundle was issued.")
    status = _one_of(
        *("active", "cancelled", "claimed", "expired", "withdrawn", "locked", "reserved"),
        "bundle_split",
    )

    @dy.rule()
    def production_is_forward(cls) -> pl.Expr:
        """Production ends after it starts."""
        return pl.col("production_ended_at") > pl.col("production_started_at")


class Invoices(Provenance):
    """One row per line of a counterparty's invoice, in the invoice's currency, net of tax."""

    invoice_id = dy.String(min_length=1)
    invoice_line_number = dy.Int64(min=1)
    contract_id = dy.String(min_length=1)
    billing_month = dy.Date(
        description="First day of the contract's local month.", metadata={REACH: _COMMITTED}
    )
    line = dy.String(min_length=1, description="As in the contract's statement, e.g. energy.")
    terms_from = dy.Date(
        nullable=True, description="Since when the terms charged for hold; null if not said."
    )
    quantity = _within(1e15, nullable=True)
    quantity_unit = dy.String(nullable=True)
    unit_price = _within(1e15, nullable=True)
    amount = dy.Float64(min=-1e15, max=1e15, description="Positive when the buyer pays.")
    currency_code = dy.String(regex="^[A-Z]{3}$")
    issued_at = _instant(_BILLED)


@dataclass(frozen=True)
class RawTable:
    """A raw table: its schema, the key by which a row revises others, and the time span of a row.

    `span` names the columns of the first and last instant a row says something about; the UTC days
    from one to the other are the days that a new row makes stale. Rows of a table that
    `may_lie_ahead` say what is to come: they make no day a day with data.
    """

    name: str
    schema: type[Provenance]
    key: Sequence[str]
    span: tuple[str, str]
    may_lie_ahead: bool = False


# As a key: what holds for a time of another length is another account of it, not a revision.
_INTERVAL = ("interval_started_at", "interval_ended_at")
_SAMPLE = ("sampled_at", "sampled_at")

RAW_TABLES: dict[str, RawTable] = {
    table.name: table
    for table in (
        RawTable("gpu_samples", GpuSamples, ("hostname", "gpu_index", "sampled_at"), _SAMPLE),
        RawTable("node_power_samples", NodePowerSamples, ("hostname", "sampled_at"), _SAMPLE),
        RawTable("jobs", Jobs, ("cluster", "job_id", "submitted_at"), ("started_at", "ended_at")),
        RawTable(
            "meter_readings",
            MeterReadings,
            ("meter_id", "flow", *_INTERVAL),
            _INTERVAL,
        ),
        RawTable(
            "register_reads",
            RegisterReads,
            ("meter_id", "flow", "meter_serial", "read_at"),
            ("read_at", "read_at"),
        ),
        RawTable("battery_samples", BatterySamples, ("battery_id", "sampled_at"), _SAMPLE),
        RawTable(
            "market_prices",
            MarketPrices,
            ("zone", "market", "sequence", *_INTERVAL),
            _INTERVAL,
            may_lie_ahead=True,
        ),
        # A rate holds on into the days after its own.
        RawTable(
            "exchange_rates",
            ExchangeRates,
            ("currency_code", "rate_date"),
            ("rate_date", "rate_date"),
            may_lie_ahead=True,
        ),
        RawTable(
            "grid_generation_mix",
            GridGenerationMix,
            ("zone", "production_type", "direction", "interval_started_at"),
            _INTERVAL,
        ),
        RawTable("grid_carbon", GridCarbon, ("zone", *_INTERVAL), _INTERVAL, may_lie_ahead=True),
        RawTable(
            "grid_events",
            GridEvents,
            ("event_id", "target"),
            ("started_at", "ended_at"),
            may_lie_ahead=True,
        ),
        RawTable(
            "grid_event_listings", GridEventListings, ("program_id",), ("known_at", "known_at")
        ),
        RawTable(
            "cloud_charges",
            CloudCharges,
            # A charge has no key of its own: a later bill of the period stands for all of it.
            ("billing_account_id", "billing_period_started_at"),
            ("charge_period_started_at", "charge_period_ended_at"),
        ),
        RawTable(
            "certificates",
            Certificates,
            ("issuing_body", "issuance_id", "first_certificate", "last_certificate"),
            ("production_started_at", "production_ended_at"),
            may_lie_ahead=True,
        ),
        RawTable(
            "invoices",
            Invoices,
            ("contract_id", "invoice_id", "invoice_line_number"),
            ("issued_at", "issued_at"),
        ),
    )
}

PROVENANCE_COLUMNS: tuple[str, ...] = tuple(Provenance.column_names())


def reaches(table: RawTable) -> dict[str, Reach]:
    """Column -> how far its times may lie from the book and from their loading."""
    return {
        name: column.metadata[REACH]
        for name, column in table.schema.columns().items()
        if column.metadata and REACH in column.metadata
    }


def columns_to_fill() -> dict[str, dict[str, pl.DataType]]:
    """Raw table -> what a connector may fill, with its type."""
    return {
        table.name: {
            name: kind
            for name, kind in table.schema.create_empty().schema.items()
            if name == "known_at" or name not in PROVENANCE_COLUMNS
        }
        for table in RAW_TABLES.values()
    }


def payload_columns(table: RawTable) -> list[str]:
    """Columns a connector fills, besides `known_at` where the source gives a publication time."""
    return [name for name in table.schema.column_names() if name not in PROVENANCE_COLUMNS]
