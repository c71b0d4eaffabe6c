"""The certificates that the simulated sites hold: when they were sent, and what is wrong with some.

What belongs here: the bundles of each file, in the columns of the raw table, and beside each the
reason for which no book may count it. What does not: how the good ones are used (`truth.py`), and
the CSV (`writers/certificates.py`).

Juelich buys the hours of a wind farm from June to September, outside office hours, and guarantees
of origin of water power: some of each month, and a bundle of the whole year. A reseller sends one
that was sold before, one past its expiry and one of another country; one is withdrawn later.
The solar plant of Franklin's contract sends the certificates that come with the contract.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from pipelines.simulator import clock, events
from pipelines.simulator.world import World

_UTC = pl.Datetime("us", "UTC")
_BERLIN, _CHICAGO = "Europe/Berlin", "America/Chicago"
_WIND_FARM_KW = 3000.0
_OFFICE_HOURS = range(8, 17)
_FRANKLIN_SHARE = 0.5
_VALID_FOR = timedelta(days=730)
SCHEMA = pl.Schema(
    {
        "issuing_body": pl.String(),
        "issuance_id": pl.String(),
        "device_id": pl.String(),
        "first_certificate": pl.Int64(),
        "last_certificate": pl.Int64(),
        "quantity_wh": pl.Int64(),
        "energy_source": pl.String(),
        "production_started_at": _UTC,
        "production_ended_at": _UTC,
        "expires_at": _UTC,
        "is_storage": pl.Boolean(),
        "market_zone": pl.String(),
        "status": pl.String(),
        "refusal": pl.String(),
    }
)
"""The raw table's columns, and why a bundle may not be counted, null where it may."""


@dataclass(frozen=True)
class CertificateFile:
    """A file of certificates as it came."""

    path: str
    """Below landing/certificates."""
    time_zone: str
    """Where the devices are."""
    arrived_at: datetime
    bundles: pl.DataFrame
    """Columns of `SCHEMA`."""


def certificate_files(world: World, until: datetime) -> list[CertificateFile]:
    """The files that came before `until`, in the order they came."""
    files = [
        *_wind_hours(world),
        *_water_months(),
        _water_year(),
        _resold(world),
        _plant_hours(world),
    ]
    return sorted(
        (file for file in files if file.arrived_at < until), key=lambda file: file.arrived_at
    )


def _bundles(rows: list[dict[str, object]]) -> pl.DataFrame:
    defaults: dict[str, object] = {
        "issuing_body": "HKNR",
        "is_storage": False,
        "market_zone": "DE-LU",
        "status": "active",
        "refusal": None,
    }
    return pl.DataFrame([defaults | row for row in rows], schema=SCHEMA)


def _hourly(device_id: str, energy_source: str, hourly_wh: np.ndarray) -> list[dict[str, object]]:
    """A bundle per hour of the world with production; numbers run on along the hours."""
    last = np.cumsum(hourly_wh)
    rows: list[dict[str, object]] = []
    for hour in np.flatnonzero(hourly_wh):
        started_at = clock.WORLD_STARTED_AT + int(hour) * timedelta(hours=1)
        rows.append(
            {
                "issuance_id": f"{device_id}-{started_at:%Y-%m-%d-%H00}",
                "device_id": device_id,
                "first_certificate": int(last[hour] - hourly_wh[hour]) + 1,
                "last_certificate": int(last[hour]),
                "quantity_wh": int(hourly_wh[hour]),
                "energy_source": energy_source,
                "production_started_at": started_at,
                "production_ended_at": started_at + timedelta(hours=1),
                "expires_at": started_at + _VALID_FOR,
            }
        )
    return rows


def _wind_farm(world: World) -> pl.DataFrame:
    """Every hour of the wind farm, whoever buys it."""
    wind_mw = world.zones["DE"].generation_mw["B19"].reshape(-1, 4).mean(axis=1)
    wh = np.round(wind_mw / wind_mw.max() * _WIND_FARM_KW * 1000).astype(np.int64)
    return _bundles(_hourly("WIND-DE-01", "wind", wh))


def _wind_hours(world: World) -> Iterator[CertificateFile]:
    """A file a month; that of June comes once more when its certificates are cancelled."""
    started_at = pl.col("production_started_at")
    bought = _wind_farm(world).filter(~started_at.dt.hour().is_in(list(_OFFICE_HOURS)))
    for month in range(6, 10):
        bundles = bought.filter(started_at.dt.month() == month)
        path = f"juelich/gc_wind_2026-{month:02}"
        arrived_at = _month(month + 1)[0] + timedelta(days=4, hours=6)
        yield CertificateFile(f"{path}.csv", _BERLIN, arrived_at, bundles)
        if month == 6:
            cancelled = bundles.with_columns(status=pl.lit("cancelled"))
            yield CertificateFile(
                f"{path}_cancelled.csv", _BERLIN, arrived_at + timedelta(days=15), cancelled
            )


def _month(month: int) -> tuple[datetime, datetime]:
    """A month of 2026 in Germany, as instants."""
    zone = ZoneInfo(_BERLIN)
    first, after = divmod(month, 12)
    return (
        datetime(2026, month, 1, tzinfo=zone).astimezone(clock.WORLD_STARTED_AT.tzinfo),
        datetime(2026 + first, after + 1, 1, tzinfo=zone).astimezone(clock.WORLD_STARTED_AT.tzinfo),
    )


def _water(
    device_id: str, mwh: int, span: tuple[datetime, datetime], **changes: object
) -> dict[str, object]:
    started_at, ended_at = span
    wh = mwh * 1_000_000
    return {
        "issuance_id": f"{device_id}-{started_at:%Y-%m-%d-%H00}",
        "device_id": device_id,
        "first_certificate": 1,
        "last_certificate": wh,
        "quantity_wh": wh,
        "energy_source": "hydro",
        "production_started_at": started_at,
        "production_ended_at": ended_at,
        "expires_at": ended_at + timedelta(days=365),
    } | changes


def _water_months() -> Iterator[CertificateFile]:
    """Guarantees of a month each, and the one of June that its issuer takes back in August."""
    for month in range(4, 10):
        # In August more than the site needs.
        bundles = [_water("HYDRO-DE-07", 500 if month == 8 else 120, _month(month))]
        taken_back = _water("HYDRO-DE-08", 100, _month(month))
        if month == 6:
            bundles.append(taken_back)
            yield CertificateFile(
                "juelich/go_2026-06_withdrawn.csv",
                _BERLIN,
                events.CERTIFICATE_WITHDRAWN_AT,
                _bundles([taken_back | {"status": "withdrawn", "refusal": "status"}]),
            )
        yield CertificateFile(
            f"juelich/go_2026-{month:02}.csv",
            _BERLIN,
            _month(month + 1)[0] + timedelta(days=11, hours=8),
            _bundles(bundles),
        )


def _water_year() -> CertificateFile:
    span = (_month(1)[0], _month(12)[1])
    return CertificateFile(
        "juelich/go_2026.csv",
        _BERLIN,
        events.CERTIFICATE_OF_THE_YEAR_AT,
        _bundles([_water("HYDRO-DE-11", 1200, span)]),
    )


def _resold(world: World) -> CertificateFile:
    """What the reseller sends: none of it may be counted."""
    sold = _wind_farm(world).row(
        by_predicate=pl.col("production_started_at") == events.CERTIFICATE_RESOLD_HOUR, named=True
    )
    half = sold["first_certificate"] + sold["quantity_wh"] // 2
    again = sold | {
        "issuance_id": "RS-8841",
        "first_certificate": half,
        "quantity_wh": sold["last_certificate"] - half + 1,
        "refusal": "used_twice",
    }
    elsewhere = sold | {
        "issuance_id": f"EOLE-FR-03-{events.CERTIFICATE_RESOLD_HOUR:%Y-%m-%d-%H00}",
        "device_id": "EOLE-FR-03",
        "market_zone": "FR",
        "refusal": "wrong_zone",
    }
    expired = _water("HYDRO-DE-09", 180, _month(7), expires_at=events.CERTIFICATE_EXPIRED_AT)
    return CertificateFile(
        "juelich/reseller_2026-08.csv",
        _BERLIN,
        events.CERTIFICATES_RESOLD_AT,
        _bundles(
            [
                again,
                expired | {"refusal": "expired"},
                elsewhere,
            ]
        ),
    )


def _plant_hours(world: World) -> CertificateFile:
    """August of the plant whose certificates come with the contract, which counts its volume."""
    hourly_kwh = world.ppa_kwh["LUP-SOLAR"].reshape(-1, 4).sum(axis=1) * _FRANKLIN_SHARE
    rows = _hourly("LUP-SOLAR", "solar", np.floor(hourly_kwh * 1000).astype(np.int64))
    given: dict[str, object] = {
        "issuing_body": "ERCOT",
        "market_zone": "US-TEX-ERCO",
        "refusal": "counted_by_contract",
    }
    bundles = _bundles([row | given for row in rows])
    return CertificateFile(
        "franklin/gc_lupinus_2026-08.csv",
        _CHICAGO,
        _month(9)[0] + timedelta(days=9, hours=15),
        bundles.filter(pl.col("production_started_at").dt.month() == 8),
    )
