"""Where a book lives.

What belongs here: the folders of one book, and the names that its load records have for files.
What does not: what is in them, and `truth/`, which only the simulator and the tests know.
"""

from dataclasses import dataclass
from pathlib import Path

from pipelines import bucket


@dataclass(frozen=True)
class Book:
    """The folders of one book, all but the lake below `data_dir`; nothing is created here."""

    data_dir: Path
    lake_url: str | None = None
    """s3://bucket/prefix of a lake in a bucket; else it lies below `data_dir`, too."""

    @property
    def landing(self) -> Path:
        """Files exactly as received, in one folder per format."""
        return self.data_dir / "landing"

    @property
    def lake(self) -> bucket.Place:
        """Parquet of the raw tables, load records, reference tables and roll-ups."""
        return bucket.place(self.lake_url) if self.lake_url else self.data_dir / "lake"

    @property
    def roll_ups(self) -> bucket.Place:
        """One folder per roll-up of telemetry."""
        return self.lake

    @property
    def quarantine(self) -> Path:
        """Rows that were refused, with the reason."""
        return self.data_dir / "quarantine"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that only dbt writes."""
        return self.data_dir / "warehouse.duckdb"

    @property
    def published(self) -> Path:
        """What teams may read."""
        return self.data_dir / "published"

    @property
    def deliveries(self) -> Path:
        """Which packs were sent, one file per week, revision and channel."""
        return self.data_dir / "deliveries"

    @property
    def pulls(self) -> Path:
        """How far each source has been asked, and answers that are not whole yet."""
        return self.data_dir / "pulls"

    @property
    def reference(self) -> Path:
        """What people declare: sites, meters, contracts, workloads."""
        return self.data_dir / "reference"

    def file(self, name: str) -> bucket.Place:
        """A file of the lake or of quarantine by its name in load records, `lake/...`."""
        folder, _, path = name.partition("/")
        return {"lake": self.lake, "quarantine": self.quarantine}[folder] / path


@dataclass(frozen=True)
class EarlierBook(Book):
    """A book as it was known at an instant: it shares the lake of the one of today.

    Roll-ups are its own, since they depend on what was known.
    """

    today: Book | None = None

    @property
    def lake(self) -> bucket.Place:
        """The lake of the book of today."""
        assert self.today is not None
        return self.today.lake

    @property
    def roll_ups(self) -> bucket.Place:
        """One folder per roll-up of telemetry as it was known."""
        return self.data_dir / "roll_ups"

    @property
    def reference(self) -> Path:
        """The reference data of the book of today."""
        assert self.today is not None
        return self.today.reference
