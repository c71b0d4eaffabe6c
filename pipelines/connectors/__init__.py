"""Connectors: one module per landing format, pure functions from bytes to raw tables.

What belongs here: which format is read by which module. What does not: finding files, unpacking
archives, validating and writing rows (`pipelines.lake`).
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from pipelines.connectors.common import Tables

FORMATS: tuple[str, ...] = (
    "prometheus",
    "dcgm_scrape",
    "llview",
    "kepler",
    "redfish",
    "sacct",
    "opencost",
    "focus",
    "green_button",
    "nem12",
    "mscons",
    "readings_csv",
    "battery_csv",
    "sunspec",
    "entsoe",
    "electricity_maps",
    "watttime",
    "openadr",
    "outages_csv",
    "prices_csv",
    "ecb",
    "certificates",
    "invoices",
)
"""Landing folders; each is read by the module of the same name in this package."""

_METRICS = ("gpu_samples", "node_power_samples", "meter_readings")
TABLES_OF: dict[str, tuple[str, ...]] = {
    "prometheus": _METRICS,
    "dcgm_scrape": _METRICS,
    "llview": ("gpu_samples",),
    "kepler": _METRICS,
    "redfish": ("node_power_samples",),
    "sacct": ("jobs",),
    "opencost": ("jobs",),
    "focus": ("cloud_charges",),
    "green_button": ("meter_readings",),
    "nem12": ("meter_readings", "register_reads"),
    "mscons": ("meter_readings", "register_reads"),
    "readings_csv": ("meter_readings",),
    "battery_csv": ("battery_samples",),
    "sunspec": ("battery_samples",),
    "entsoe": ("market_prices", "grid_generation_mix"),
    "electricity_maps": ("grid_carbon",),
    "watttime": ("grid_carbon",),
    "openadr": ("grid_events", "grid_event_listings"),
    "outages_csv": ("grid_events",),
    "prices_csv": ("market_prices",),
    "ecb": ("exchange_rates",),
    "certificates": ("certificates",),
    "invoices": ("invoices",),
}
"""Landing folder -> the raw tables that its files may hold rows of; one that cannot be read lacks
in these."""


def connector(format_name: str) -> Callable[..., Iterator[Tables]]:
    """How a landing format is read; imported when first asked for.

    That is its module's `read_parts`, or `read` where it has none: the whole file in one part.

    Raises:
        KeyError: No connector reads this format.
    """
    if format_name not in FORMATS:
        raise KeyError(format_name)
    module = import_module(f"{__name__}.{format_name}")

    def read_whole(content: bytes, **known: Any) -> Iterator[Tables]:
        yield module.read(content, **known)

    return getattr(module, "read_parts", read_whole)
