"""Grid zones of the simulated world: load, wind, sun, generation mix, carbon and prices.

What belongs here: what happens on the public grid. What does not: sites and their contracts.
Prices follow what is left of the load after sun and wind; carbon follows the mix that serves it.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Floats
from pipelines.simulator.weather import Weather

DIRECT_G_PER_KWH = {
    "B01": 0.0,
    "B02": 760.0,
    "B04": 370.0,
    "B05": 760.0,
    "B09": 0.0,
    "B10": 0.0,
    "B11": 0.0,
    "B12": 0.0,
    "B14": 0.0,
    "B16": 0.0,
    "B17": 575.0,
    "B18": 0.0,
    "B19": 0.0,
}
"""Emission factors by ENTSO-E production type, burning alone."""
LIFE_CYCLE_G_PER_KWH = {
    "B01": 230.0,
    "B02": 820.0,
    "B04": 490.0,
    "B05": 820.0,
    "B09": 38.0,
    "B10": 332.0,
    "B11": 24.0,
    "B12": 24.0,
    "B14": 12.0,
    "B16": 45.0,
    "B17": 700.0,
    "B18": 12.0,
    "B19": 11.0,
}
_RENEWABLE = {"B01", "B09", "B11", "B12", "B16", "B18", "B19"}
_CARBON_FREE = (_RENEWABLE - {"B01"}) | {"B14"}


@dataclass(frozen=True)
class Zone:
    """A grid zone: one value per interval of the world, power in MW."""

    generation_mw: dict[str, Floats]
    """By production type."""
    pumping_mw: Floats
    price_per_mwh: Floats | None
    auction_price_per_mwh: Floats | None
    """Of the zone's second auction, where it has one."""

    def carbon_hourly(self) -> dict[str, Floats]:
        """Hourly means of the mix: direct and life-cycle g/kWh, carbon-free and renewable ratio."""
        hourly = {
            code: power.reshape(-1, 4).mean(axis=1) for code, power in self.generation_mw.items()
        }
        total = np.sum(list(hourly.values()), axis=0)

        def share(weights: dict[str, float]) -> Floats:
            return np.asarray(
                np.sum([power * weights.get(code, 0.0) for code, power in hourly.items()], axis=0)
                / total
            )

        return {
            "direct_g_per_kwh": share(DIRECT_G_PER_KWH),
            "life_cycle_g_per_kwh": share(LIFE_CYCLE_G_PER_KWH),
            "carbon_free_ratio": share(dict.fromkeys(_CARBON_FREE, 1.0)),
            "renewable_ratio": share(dict.fromkeys(_RENEWABLE, 1.0)),
        }


def _bump(hour: Floats, centre: float, width: float) -> Floats:
    distance = (hour - centre + 12) % 24 - 12
    return np.exp(-0.5 * (distance / width) ** 2)


def simulate_germany(weather: Weather) -> Zone:
    """DE-LU: much sun and wind, lignite, coal and gas for the rest, negative noons in summer."""
    count = clock.INTERVAL_COUNT
    hour, weekday, _, day_of_year = clock.local_parts(clock.interval_starts(), "Europe/Berlin")
    winter = np.cos(2 * np.pi * (day_of_year - 15) / 365)
    works = np.where(weekday <= 5, 1.0, np.where(weekday == 6, 0.35, 0.1))
    load = (
        43.5
        + 4.5 * winter
        + works * 7.5 * (_bump(hour, 10.5, 3.2) + 0.75 * _bump(hour, 18.5, 2.6))
        + 5.0 * (_bump(hour, 12, 4.0) + _bump(hour, 19.0, 2.5)) * (1 - works)
        + 0.9 * clock.drift("DE-LU/load", count, 8)
    )
    zone_clear = 0.35 * weather.clear_sky_ratio + 0.65 * np.clip(
        0.72 + 0.16 * clock.drift("DE-LU/clouds", count, 36), 0.35, 0.98
    )
    local_clear = np.maximum(weather.clear_sky_ratio, 0.05)
    sun = 46.0 * weather.ghi_w_per_m2 / local_clear * zone_clear / 900
    wind = _wind("DE-LU", mean=14.0, spread=9.5, season=3.0 * winter, swing=0.0 * hour)
    offshore, onshore = 0.24 * wind + 0.4, 0.76 * wind
    biomass, river, waste = np.full(count, 4.4), 1.7 - 0.3 * winter, np.full(count, 0.6)
    left = load - sun - offshore - onshore - biomass - river - waste
    curve = (
        [-20, -8, 0, 6, 12, 20, 28, 36, 44, 54],
        [-210, -75, -14, 1, 38, 74, 96, 118, 160, 290],
    )
    price = (
        np.interp(left, *curve)
        + 5 * clock.drift("DE-LU/price", count, 5)
        + 9 * np.tanh(np.gradient(left) * 4)
    )
    pumping = np.clip(6 - 0.35 * left, 0, 5.5)
    thermal = np.maximum(left + pumping, 3.5)
    hydro = np.clip((thermal - 26) * 0.3, 0, 5)
    thermal = thermal - hydro
    lignite = np.clip(1.8 + 0.30 * thermal, 2.0, 12.5)
    coal = np.clip(0.14 * thermal - 0.2, 0.5, 6.5)
    gas = np.maximum(thermal - lignite - coal, 1.0)
    power = {
        "B01": biomass,
        "B02": lignite,
        "B04": gas,
        "B05": coal,
        "B10": hydro,
        "B11": river,
        "B16": sun,
        "B17": waste,
        "B18": offshore,
        "B19": onshore,
    }
    auction = price + 1.2 + 2.5 * clock.drift("DE-LU/second auction", count, 1)
    return Zone(
        {code: np.round(value * 1000) for code, value in power.items()},
        np.round(pumping * 1000),
        np.round(price, 2),
        np.round(auction, 2),
    )


def simulate_texas(weather: Weather) -> Zone:
    """ERCOT: heat makes the load, wind blows at night; real-time prices at the north hub.

    In May lines to the load are out, so that mild, windy weather leaves the hub with too much
    power; in the placed spike the price passes 1,000 USD/MWh, and at no other time.
    """
    count = clock.INTERVAL_COUNT
    hour, weekday, month, day_of_year = clock.local_parts(
        clock.interval_starts(), "America/Chicago"
    )
    heat = np.clip(weather.temperature_c - 18, 0, None)
    load = (
        41
        + 1.45 * heat
        + 4.5 * _bump(hour, 17.5, 4.0)
        - 3.5 * _bump(hour, 3.5, 3.0)
        - 1.5 * (weekday > 5)
        + 0.8 * clock.drift("ERCOT/load", count, 8)
    )
    zone_clear = 0.3 * weather.clear_sky_ratio + 0.7 * np.clip(
        0.86 + 0.10 * clock.drift("ERCOT/clouds", count, 30), 0.45, 1.0
    )
    sun = np.clip(
        27 * weather.tracker_w_per_m2 / np.maximum(weather.clear_sky_ratio, 0.1) * zone_clear / 950,
        0,
        27,
    )
    spring = np.cos(2 * np.pi * (day_of_year - 110) / 365)
    wind = _wind(
        "ERCOT", mean=9.0, spread=8.0, season=2.0 * spring, swing=3.0 * _bump(hour, 1, 4.5)
    )
    stuck = np.where(month == 5, 10.0, 0.0)
    nuclear = np.full(count, 4.9)
    left = load - sun - wind - nuclear
    curve = (
        [-12, 0, 6, 11, 16, 24, 32, 40, 46, 52, 60],
        [-38, -27, -14, -2, 14, 23, 29, 38, 62, 150, 420],
    )
    price = (
        np.interp(left - stuck, *curve)
        + 2.0 * clock.drift("ERCOT/price", count, 2)
        + 3.0 * clock.drift("ERCOT/fast price", count, 0.3)
    )
    price = np.clip(price, -90, 780)
    spike = slice(
        clock.interval_index(events.FRANKLIN_PRICE_SPIKE.started_at),
        clock.interval_index(events.FRANKLIN_PRICE_SPIKE.ended_at),
    )
    price[spike] = [1384.21, 2215.67, 2479.5, 1871.08, 1102.94]
    thermal = np.maximum(left, 6.0)
    coal = np.clip(1.5 + 0.16 * thermal, 2.0, 8.5)
    power = {"B04": thermal - coal, "B05": coal, "B14": nuclear, "B16": sun, "B19": wind}
    return Zone(
        {code: np.round(value * 1000) for code, value in power.items()},
        np.zeros(count),
        np.round(price, 2),
        None,
    )


def simulate_nevada(weather: Weather) -> Zone:
    """Nevada Power's area: gas, sun and geothermal steam; no market price of its own."""
    count = clock.INTERVAL_COUNT
    hour, _, _, _ = clock.local_parts(clock.interval_starts(), "America/Los_Angeles")
    load = (
        3.3
        + 0.13 * np.clip(weather.temperature_c - 16, 0, None)
        + 0.9 * _bump(hour, 18, 3.5)
        + 0.1 * clock.drift("NEVP/load", count, 8)
    )
    sun = 2.6 * weather.tracker_w_per_m2 / 1000 * (0.6 + 0.4 * weather.clear_sky_ratio)
    steam, hydro = np.full(count, 0.45), np.full(count, 0.15)
    wind = np.clip(0.08 + 0.05 * clock.drift("NEVP/wind", count, 12), 0.01, 0.2)
    thermal = np.maximum(load - sun - steam - hydro - wind, 0.5)
    power = {
        "B04": 0.92 * thermal,
        "B05": 0.08 * thermal,
        "B09": steam,
        "B12": hydro,
        "B16": sun,
        "B19": wind,
    }
    return Zone(
        {code: np.round(value * 1000) for code, value in power.items()}, np.zeros(count), None, None
    )


def _wind(zone: str, *, mean: float, spread: float, season: Floats, swing: Floats) -> Floats:
    count = clock.INTERVAL_COUNT
    slow = clock.drift(f"{zone}/wind fronts", count, 36)
    fast = clock.drift(f"{zone}/wind gusts", count, 3)
    # A logistic of the weather keeps the fleet between calm and full output.
    output = 2 / (1 + np.exp(-1.25 * slow - 0.2 * fast))
    return np.clip((mean + season) * output + (spread - 8) * 0.1 + swing - 1, 0.6, None)
