"""How a site's own files and metrics are to be read: `mappings.yml`, where there is one.

What belongs here: the layout of suppliers' meter CSVs and the meaning of Prometheus metrics. What
does not: formats that say by themselves what they mean, and reading (`pipelines/connectors`).
"""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import Model, TimeZone, text_like

Name = Annotated[str, Field(min_length=1)]
MetricName = Annotated[
    str,
    Field(pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200),
    text_like("the name of a metric, as node_power_watts", "node_power_watts"),
]


class Source(Model):
    """Where a value comes from: a column of each row, or the same for all rows.

    With `codes` the column's texts stand for others; a text that is no code is a fault of its row.
    """

    column: Name | None = None
    """Column that has it; left out: it is the same for all rows."""
    constant: Name | None = None
    """What it is of all rows; left out: it stands in a column."""
    codes: dict[str, Name] | None = None
    """What the texts of the column stand for, as {"1.8.0": import}; left out: the texts
    themselves."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Source":
        if (self.column is None) == (self.constant is None):
            raise PydanticCustomError(
                "source", "expected either column or constant: name one of the two"
            )
        if self.codes is not None and self.column is None:
            raise PydanticCustomError("codes", "found codes of a constant: give it as it is meant")
        return self


class Time(Model):
    """A time in one column, or in several that are read with a space between them.

    Without `format` it is ISO 8601, else what strptime understands, such as `%d.%m.%Y %H:%M`.
    `time_zone` is that of times without an offset.
    """

    columns: Annotated[list[Name], Field(min_length=1, max_length=3)]
    """Column of the time, or columns of its parts, as [date, time]."""
    format: Name | None = None
    """How it is written, as "%d.%m.%Y %H:%M"; left out: ISO 8601."""
    time_zone: TimeZone | None = None
    """IANA time zone of times without an offset, such as Europe/Berlin; left out: each has one."""

    @model_validator(mode="after")
    def _is_an_instant(self) -> "Time":
        if self.format is None:
            return self
        if ("%z" in self.format) == (self.time_zone is not None):
            raise PydanticCustomError(
                "time_zone",
                "expected time_zone where format has no %z, and none where it has: name the zone"
                " that the times are in, such as Europe/Berlin, or UTC",
            )
        day = r"%Y|%y", r"%m|%b|%B", r"%d"
        whole_day = all(re.search(part, self.format) for part in day) or "%j" in self.format
        if not (whole_day or re.search("%[FDs]", self.format)):
            raise PydanticCustomError(
                "format", "expected a format with year, month and day, such as %d.%m.%Y %H:%M"
            )
        return self


class Quantity(Model):
    """The column with the energy of an interval, or its mean power, which becomes energy."""

    column: Name
    """Column of the energy or power."""
    unit: Literal["Wh", "kWh", "MWh", "W", "kW", "MW"]
    """Unit of the column; of W, kW and MW it is the mean power of the interval."""


class ReadingsMapping(Model):
    """How the meter CSVs of one folder below `landing/readings_csv/` are to be read.

    Of the interval either both ends are told, or one and `interval_minutes`. `flow` comes to import
    or export, `quality` to measured, estimated, substituted or missing; without it a row is
    measured, and missing where it has no quantity.
    """

    folder: Annotated[
        str,
        Field(pattern=r"^[^/\\.][^/\\]*(/[^/\\.][^/\\]*)*$"),
        text_like("a folder below landing/readings_csv/, as stadtwerke", "stadtwerke"),
    ]
    """Folder below landing/readings_csv/, such as stadtwerke."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What stands between two columns; left out: a comma."""
    decimal_mark: Literal[".", ","] = "."
    """Decimal mark of numbers; left out: a point."""
    meter_id: Source
    """Which meter a row is of."""
    flow: Source
    """Whether a row is import or export."""
    started_at: Time | None = None
    """When the interval begins; left out: it follows from its end."""
    ended_at: Time | None = None
    """When the interval ends; left out: it follows from its beginning."""
    interval_minutes: Annotated[int, Field(ge=1, le=1440)] | None = None
    """Length of all intervals in minutes; left out: both ends are told."""
    quantity: Quantity
    """Energy or mean power of the interval."""
    quality: Source | None = None
    """How the reading came about; left out: measured, and missing where it has no quantity."""

    @model_validator(mode="after")
    def _tells_the_interval_once(self) -> "ReadingsMapping":
        told = [self.started_at, self.ended_at, self.interval_minutes]
        if sum(part is not None for part in told) != 2:
            raise PydanticCustomError(
                "interval",
                "expected two of started_at, ended_at and interval_minutes: add what is missing or"
                " remove the third",
            )
        return self

    @model_validator(mode="after")
    def _comes_to_known_words(self) -> "ReadingsMapping":
        for name, source, words in (
            ("flow", self.flow, ("import", "export")),
            ("quality", self.quality, ("measured", "estimated", "substituted", "missing")),
        ):
            given = [] if source is None else [source.constant, *(source.codes or {}).values()]
            wrong = [word for word in given if word is not None and word not in words]
            if wrong:
                raise PydanticCustomError(
                    "words",
                    "{name}: found {found}, expected one of {words}: correct it",
                    {"name": name, "found": repr(wrong[0]), "words": ", ".join(words)},
                )
        return self

    @model_validator(mode="after")
    def _marks_differ(self) -> "ReadingsMapping":
        if self.delimiter == self.decimal_mark:
            raise PydanticCustomError(
                "delimiter",
                "found {mark} as delimiter and decimal_mark, expected two: correct one of them",
                {"mark": repr(self.delimiter)},
            )
        return self


class NameLabel(Model):
    """The label that names a host, GPU or meter.

    `strip_prefix` is taken off; with `names` only what stands there is meant, by the name beside
    it. Of a host, a port is always taken off.
    """

    label: Name
    """Label that has the name, such as instance."""
    strip_prefix: str = ""
    """What is taken off the front of the label; left out: nothing."""
    names: dict[str, Name] | None = None
    """Names by what the label says; left out: the label itself."""


class MetricMapping(Model):
    """What a Prometheus metric means, of the series whose labels are those of `where`.

    `gpu_energy` is a counter; `meter_energy` the register of a meter that counts on for ever.
    """

    metric: MetricName
    """Name of the metric, such as node_hwmon_power_average_watt."""
    quantity: Literal["gpu_power", "gpu_energy", "gpu_utilization", "node_power", "meter_energy"]
    """What it measures; gpu_energy and meter_energy count on."""
    unit: Literal["mW", "W", "kW", "uJ", "mJ", "J", "kJ", "Wh", "kWh", "MWh", "percent", "ratio"]
    """Unit of the metric."""
    host: NameLabel | None = None
    """Label of the node; needed but for meters."""
    gpu: NameLabel | None = None
    """Label of the GPU within its node; needed of GPUs."""
    meter: NameLabel | None = None
    """Label of the meter; needed of meters."""
    flow: Literal["import", "export"] = "import"
    """Direction of a meter; left out: import."""
    where: dict[Name, str] = Field(default_factory=dict)
    """Labels of the series that are meant, as {sensor: power1}; left out: all."""

    @model_validator(mode="after")
    def _has_a_unit_of_its_kind(self) -> "MetricMapping":
        units = {
            "gpu_power": ("mW", "W", "kW"),
            "node_power": ("mW", "W", "kW"),
            "gpu_energy": ("uJ", "mJ", "J", "kJ", "Wh", "kWh"),
            "gpu_utilization": ("percent", "ratio"),
            "meter_energy": ("Wh", "kWh", "MWh"),
        }[self.quantity]
        if self.unit not in units:
            raise PydanticCustomError(
                "unit",
                "found {unit} of {quantity}, expected one of {units}: correct one of the two",
                {"unit": self.unit, "quantity": self.quantity, "units": ", ".join(units)},
            )
        return self

    @model_validator(mode="after")
    def _names_what_it_is_of(self) -> "MetricMapping":
        needed = {"meter"} if self.quantity == "meter_energy" else {"host"}
        needed |= {"gpu"} if self.quantity.startswith("gpu_") else set()
        given = {name for name in ("host", "gpu", "meter") if getattr(self, name) is not None}
        if given != needed:
            raise PydanticCustomError(
                "labels",
                "found the labels of {given}, expected those of {needed}, which a {quantity} is of:"
                " add what is missing and remove what is not needed",
                {
                    "given": " and ".join(sorted(given)) or "nothing",
                    "needed": " and ".join(sorted(needed, reverse=True)),
                    "quantity": self.quantity,
                },
            )
        return self


class Mappings(Model):
    """All of `mappings.yml`."""

    readings_csv: list[ReadingsMapping] = Field(default_factory=list)
    """Layouts of suppliers' meter CSVs."""
    metrics: list[MetricMapping] = Field(default_factory=list)
    """What metrics of other names mean."""
