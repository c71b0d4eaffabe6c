"""Connectors: one module per landing format, pure functions from bytes to raw tables.

What belongs here: which format is read by which module. What does not: finding files, unpacking
archives, validating and writing rows (`pipelines.lake`).
"""

from collections.abc import Callable
from importlib import import_module

from pipelines.connectors.common import Tables

FORMATS: tuple[str, ...] = (
    "prometheus",
    "dcgm_scrape",
    "sacct",
    "focus",
    "green_button",
    "nem12",
    "battery_csv",
    "entsoe",
    "electricity_maps",
    "openadr",
    "outages_csv",
    "prices_csv",
    "certificates",
    "invoices",
)
"""Landing folders; each is read by the module of the same name in this package."""


def connector(format_name: str) -> Callable[..., Tables]:
    """The `read` function of a landing format; imported when first asked for.

    Raises:
        KeyError: No connector reads this format.
    """
    if format_name not in FORMATS:
        raise KeyError(format_name)
    read: Callable[..., Tables] = import_module(f"{__name__}.{format_name}").read
    return read
