"""What a book's `mappings.yml` tells the connectors, as plain values.

What belongs here: the layout of suppliers' meter CSVs and the meaning of metrics, checked already.
What does not: checking them (`pipelines/reference/mappings.py`) and reading with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Source:
    """A column whose texts may be codes of others, or a constant."""

    column: str | None = None
    constant: str | None = None
    codes: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Time:
    """Columns of a time, read with a space between them; ISO 8601 without a format."""

    columns: Sequence[str]
    format: str | None = None
    time_zone: str | None = None


@dataclass(frozen=True)
class Quantity:
    """The column of energy, or of mean power."""

    column: str
    unit: str


@dataclass(frozen=True)
class ReadingsMapping:
    """How meter CSVs of a folder below `landing/readings_csv/` are to be read."""

    folder: str
    meter_id: Source
    flow: Source
    quantity: Quantity
    delimiter: str = ","
    decimal_mark: str = "."
    started_at: Time | None = None
    ended_at: Time | None = None
    interval_minutes: int | None = None
    quality: Source | None = None


@dataclass(frozen=True)
class NameLabel:
    """The label that names a host, GPU or meter; with `names` only what stands there is meant."""

    label: str
    strip_prefix: str = ""
    names: Mapping[str, str] | None = None


@dataclass(frozen=True)
class MetricMapping:
    """What a metric means, of the series whose labels are those of `where`."""

    metric: str
    quantity: str
    unit: str
    host: NameLabel | None = None
    gpu: NameLabel | None = None
    meter: NameLabel | None = None
    flow: str = "import"
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mappings:
    """All of a book's mappings."""

    readings_csv: Sequence[ReadingsMapping] = ()
    metrics: Sequence[MetricMapping] = ()

    def readings_of(self, file_name: str) -> ReadingsMapping | None:
        """That of the innermost folder above a file, named by its path below `readings_csv/`."""
        above = {folder.as_posix() for folder in PurePosixPath(file_name).parents}
        found = [mapping for mapping in self.readings_csv if mapping.folder in above]
        return max(found, key=lambda mapping: len(mapping.folder), default=None)
