"""Weather of the simulated sites and zones, and what photovoltaic plants make of it.

What belongs here: sun (pvlib's clear sky behind autocorrelated clouds), temperature, plant output.
What does not: markets (`markets.py`) and the use of the energy (`site_model.py`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pvlib

from pipelines.simulator import clock
from pipelines.simulator.clock import Floats


@dataclass(frozen=True)
class Climate:
    """A place and its usual weather; temperatures in degrees Celsius, noon to midnight swing."""

    name: str
    latitude: float
    longitude: float
    altitude_m: float
    mean_c: float
    season_c: float
    swing_c: float
    synoptic_c: float
    cloudiness: float


CLIMATES = {
    climate.name: climate
    for climate in (
        Climate("juelich", 50.92, 6.36, 90, 11.0, 8.5, 4.5, 3.2, 0.62),
        Climate("sparks", 39.54, -119.44, 1340, 13.0, 12.0, 8.5, 2.8, 0.26),
        Climate("franklin", 33.18, -95.22, 130, 19.0, 10.5, 6.0, 2.6, 0.42),
    )
}


@dataclass(frozen=True)
class Weather:
    """Weather at one place: one value per interval of the world."""

    temperature_c: Floats
    clear_sky_ratio: Floats
    """What clouds let through of the clear sky's global irradiance."""
    ghi_w_per_m2: Floats
    tracker_w_per_m2: Floats
    """Irradiance on the plane of a single-axis tracker."""


def simulate_weather(climate: Climate) -> Weather:
    """Clear sky at the middle of each interval, behind clouds that last hours and fronts days."""
    starts = clock.interval_starts()
    times = pd.date_range(
        clock.WORLD_STARTED_AT + clock.INTERVAL / 2, periods=clock.INTERVAL_COUNT, freq="15min"
    )
    place = pvlib.location.Location(
        climate.latitude, climate.longitude, tz="UTC", altitude=climate.altitude_m
    )
    sun = place.get_solarposition(times)
    clear = place.get_clearsky(times, model="ineichen", solar_position=sun, linke_turbidity=3.2)
    count = clock.INTERVAL_COUNT
    fronts = clock.drift(f"{climate.name}/fronts", count, 40)
    fields = clock.drift(f"{climate.name}/fields", count, 3)
    passing = clock.drift(f"{climate.name}/passing", count, 0.5)
    cover = np.clip(climate.cloudiness + 0.30 * fronts + 0.12 * fields + 0.06 * passing, 0.0, 1.0)
    through = 1 - 0.75 * cover**3.4
    ghi = clear["ghi"].to_numpy() * through
    parts = pvlib.irradiance.erbs(ghi, sun["zenith"].to_numpy(), times)
    tracker = pvlib.tracking.singleaxis(
        sun["apparent_zenith"], sun["azimuth"], max_angle=55, gcr=0.35
    )
    plane = pvlib.irradiance.get_total_irradiance(
        tracker["surface_tilt"].fillna(0),
        tracker["surface_azimuth"].fillna(180),
        sun["apparent_zenith"],
        sun["azimuth"],
        parts["dni"],
        ghi,
        parts["dhi"],
    )["poa_global"]
    hour, _, _, day_of_year = clock.local_parts(starts, "UTC")
    solar_hour = (hour + climate.longitude / 15) % 24
    season = -np.cos(2 * np.pi * (day_of_year - 20) / 365)
    daily = np.cos(2 * np.pi * (solar_hour - 15.5) / 24)
    temperature = (
        climate.mean_c
        + climate.season_c * season
        + climate.swing_c * daily * (0.45 + 0.55 * through)
        + climate.synoptic_c * clock.drift(f"{climate.name}/air", count, 60)
    )
    return Weather(temperature, through, ghi, np.nan_to_num(plane.to_numpy()).clip(min=0))


def plant_output_kw(weather: Weather, *, ac_kw: float, dc_ratio: float = 1.25) -> Floats:
    """AC power of a tracker plant: cell temperature and system losses, clipped at the inverter."""
    cell_c = weather.temperature_c + weather.tracker_w_per_m2 * 0.028
    dc_kw = ac_kw * dc_ratio * weather.tracker_w_per_m2 / 1000
    return np.clip(dc_kw * (1 - 0.0037 * (cell_c - 25)) * 0.93, 0, ac_kw)
