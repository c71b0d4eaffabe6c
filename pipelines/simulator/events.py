"""What is placed in the simulated world on purpose, and when.

What belongs here: the dates and sizes of the placed events. What does not: their effect, which the
models of weather, markets, jobs and sites work out, nor any figure the book must find.
"""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Span:
    """A half-open span of time."""

    started_at: datetime
    ended_at: datetime

    def overlaps(self, started_at: datetime, ended_at: datetime) -> bool:
        """Whether any part of the span lies in the other half-open span."""
        return self.started_at < ended_at and started_at < self.ended_at


@dataclass(frozen=True)
class Estimate:
    """Readings of a meter that come estimated, off by a factor, and are replaced later."""

    meter_id: str
    span: Span
    ratio: float
    replaced_at: datetime


def _utc(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


SPARKS_OUTAGE = Span(_utc(8, 14, 23, 30), _utc(8, 15, 7, 30))
FRANKLIN_CURTAILMENT = Span(_utc(8, 20, 20), _utc(8, 20, 23, 30))
FRANKLIN_CURTAILMENT_LIMIT_KW = 22000.0
FRANKLIN_PRICE_SPIKE = Span(_utc(8, 27, 22), _utc(8, 27, 23, 15))

SPARKS_DEEP_DISCHARGE = Span(_utc(6, 17, 12), _utc(6, 18, 4))
SPARKS_AT_RESERVE = Span(_utc(6, 18, 4), _utc(6, 18, 11, 45))
"""Held at its reserve; the charge that ends this begins one interval before it shows."""

BATTERY_TRIPS = (
    Span(_utc(4, 22, 5), _utc(4, 22, 9)),
    Span(_utc(5, 14, 3, 30), _utc(5, 14, 8)),
    Span(_utc(6, 3, 6), _utc(6, 3, 9, 30)),
    Span(_utc(7, 9, 4), _utc(7, 9, 9)),
    Span(_utc(7, 30, 18), _utc(7, 30, 19, 30)),
    Span(_utc(9, 2, 4, 15), _utc(9, 2, 9, 45)),
    Span(_utc(9, 24, 7), _utc(9, 24, 11, 15)),
    Span(_utc(10, 14, 3), _utc(10, 14, 7, 15)),
)
"""Trips of the second-life battery's management system: state fault, nothing available."""

BATTERY_FALSE_SAMPLE_AT = _utc(9, 16, 13, 5)
"""The second-life battery reports a state of charge of 0 for a moment."""

JUELICH_POWER_CAP = Span(_utc(10, 27, 9), _utc(10, 27, 11, 30))
JUELICH_POWER_CAP_RATIO = 0.65
JUELICH_THERMAL = Span(_utc(10, 22, 12), _utc(10, 22, 14))
JUELICH_THERMAL_NODES = range(120, 126)
"""Zero-based positions of the nodes with a clogged cooling loop: jwb0121 to jwb0126."""
JUELICH_THERMAL_RATIO = 0.75

SPARKS_DRAIN = Span(_utc(10, 20, 10), _utc(10, 21, 15))
SPARKS_DRIVER_RELOAD_AT = _utc(10, 21, 14, 7)
SPARKS_RELOAD_NODE = 16
"""Zero-based position of spk0017, drained for the reload of its driver."""

GPU_LIMIT_RATIO = 0.9
"""Of its model's peak: from here on a GPU meets the limit it comes with, as GPU Boost intends."""


@dataclass(frozen=True)
class Board:
    """A GPU board: its site, the zero-based position of its node, and its index there."""

    site_id: str
    node: int
    gpu: int


FROZEN_COUNTER = (Board("juelich", 199, 2), Span(_utc(10, 24, 6), _utc(10, 24, 18)))
"""Its energy counter shows the same reading all the while, then what it should."""
COUNTER_GLITCH = (Board("sparks", 99, 5), _utc(10, 25, 11))
"""One reading too high, by less than a board could have drawn since the one before."""
COUNTER_GLITCH_KWH = 0.3
MIG_BOARD = (Board("sparks", SPARKS_RELOAD_NODE, 0), Span(_utc(10, 20, 12), _utc(10, 20, 20)))
"""In MIG mode while its node is drained: seven instances, of which one job holds three."""
MIG_BUSY_INSTANCES = 3
MIG_INSTANCES = 7

MISSING_ACCOUNTING = ("sparks", _utc(7, 15))
"""Site and UTC day whose listing of jobs never came."""
SUSPENSION = ("sparks", Span(_utc(7, 22, 10), _utc(7, 22, 13)))
"""A job is suspended so that another can run on its nodes."""

TELEMETRY_STARTED_AT = _utc(10, 18, 22)
FINE_TELEMETRY = Span(_utc(11, 1), _utc(11, 2))
SCRAPES = Span(_utc(11, 1, 12), _utc(11, 1, 13))

LATE_CORRECTION_DAY = _utc(9, 10)
LATE_CORRECTION_AT = _utc(9, 25, 3)
LATE_CORRECTION_RATIO = 0.92
"""What the first reading counted of the true energy: one phase of the transducer was dead."""
FACILITY_ESTIMATE = Estimate("FRK-POI", Span(_utc(7, 6, 12), _utc(7, 6, 20)), 0.97, _utc(7, 20, 3))
PLANT_ESTIMATE = Estimate("FKL-SOLAR", Span(_utc(8, 19, 16), _utc(8, 19, 22)), 1.06, _utc(9, 21, 3))
"""Replaced after the plant's August was invoiced."""
ESTIMATED_READS = (FACILITY_ESTIMATE, PLANT_ESTIMATE)
MISSING_READ = Span(_utc(7, 21, 6), _utc(7, 21, 7, 30))
"""Readings sent with quality missing ..."""
ABSENT_READ = Span(_utc(7, 21, 7, 30), _utc(7, 21, 9))
"""... and readings not sent at all."""

RESENT_DAY = _utc(5, 20)
RESENT_AT = _utc(5, 23, 3)
OUT_OF_ORDER_DAY = _utc(6, 10)
OUT_OF_ORDER_AT = _utc(6, 14, 9)

CLOUD_OVERCHARGED = Span(_utc(6, 10, 12), _utc(6, 10, 18))
CLOUD_CORRECTED_AT = _utc(7, 6)
CLOUD_CORRECTED_RATIO = 0.25
"""Of what was bought on demand in the span, taken back in the next month's bill."""
CLOUD_FAILED = Span(_utc(8, 12, 14), _utc(8, 12, 18))
CLOUD_CREDITED_RATIO = 0.5
"""Of what batch evaluation bought on demand in the span, credited in the same month's bill."""
CLOUD_PROVISIONAL = Span(_utc(9, 8), _utc(9, 10))
CLOUD_RESTATED_AT = _utc(9, 21)
"""Until then the span's charges had no tags, and each on-demand charge a second one beside it."""

CERTIFICATE_OF_THE_YEAR_AT = _utc(4, 20, 9)
CERTIFICATE_WITHDRAWN_AT = _utc(8, 20, 7)
CERTIFICATE_RESOLD_HOUR = _utc(8, 11, 20)
CERTIFICATE_EXPIRED_AT = _utc(7, 15)
CERTIFICATES_RESOLD_AT = _utc(9, 8, 10)

INVOICE_ERRORS = {
    ("franklin-lupinus-pap", "2026-05"): "price",
    ("franklin-lupinus-pap", "2026-07"): "rounding",
    ("franklin-lupinus-pap", "2026-09"): "missing_in_invoice",
    ("franklin-lupinus-pap", "2026-10"): "escalation",
    ("franklin-lupinus2-vppa", "2026-05"): "clause",
    ("franklin-lupinus2-vppa", "2026-06"): "fx",
    ("franklin-lupinus2-vppa", "2026-07"): "not_in_settlement",
    ("franklin-lupinus2-vppa", "2026-08"): "later_reading",
    ("franklin-lupinus2-vppa", "2026-09"): "volume",
}
"""Contract and month of each wrong invoice, and the cause the book must find."""
