"""Where a book lives.

What belongs here: the folders of one book. What does not: what is in them, and `truth/`, which
only the simulator and the tests know.
"""

from dataclasses import dataclass
from pathlib import Path

PROJECT_REFERENCE = Path(__file__).parents[1] / "data" / "reference"


@dataclass(frozen=True)
class Book:
    """The folders of one book, all below `data_dir`; nothing is created here."""

    data_dir: Path

    @property
    def landing(self) -> Path:
        """Files exactly as received, in one folder per format."""
        return self.data_dir / "landing"

    @property
    def lake(self) -> Path:
        """Parquet of the raw tables, load records, reference tables and roll-ups."""
        return self.data_dir / "lake"

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
    def reference(self) -> Path:
        """The book's own reference data if it has any, else the project's."""
        own = self.data_dir / "reference"
        return own if own.is_dir() else PROJECT_REFERENCE
