"""Reads what a management controller answers over Redfish of the power that a server takes.

What belongs here: the resources `Power` (`PowerControl[].PowerConsumedWatts`) and
`EnvironmentMetrics` (`PowerWatts.Reading`) of DMTF's schema, one resource per file. What does not:
supplies, voltages, temperatures and limits.

The time is the sensor's `ReadingTime`, else that in the file's name. The host is what stands before
it there, as in `node0001_20261101T000000Z.json`, or, where that names the resource or nothing, the
folder above it: `landing/redfish/node0001/Power_20261101T000000Z.json`.
"""

from pathlib import PurePosixPath
from typing import Any

import orjson
import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.dcgm_scrape import host_in_name
from pipelines.connectors.parsing import (
    assemble,
    instant,
    number,
    text,
    time_in_name,
)

_EXPECTED = "a Redfish resource as a management controller answers it"
_RESOURCES = ("power", "environmentmetrics")


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """One row of `node_power_samples`; a resource that tells no power is left out.

    Of several members of `PowerControl` the greatest counts: a controller lists the server's total
    beside its parts.

    Raises:
        UnreadableFile: it is no Redfish resource.
    """
    del context
    try:
        resource = orjson.loads(content)
    except ValueError as error:
        raise UnreadableFile(
            f"{file_name}: not valid JSON ({error}); expected {_EXPECTED}; fetch it again"
        ) from error
    if not isinstance(resource, dict) or not isinstance(resource.get("@odata.type"), str):
        raise UnreadableFile(
            f"{file_name}: found JSON without @odata.type, expected {_EXPECTED}; land it unchanged"
        )
    found, read_at = _power(resource)
    kind = resource["@odata.type"].lstrip("#").partition(".")[0]
    told_in_name = time_in_name(file_name)
    at = read_at or (told_in_name and f"{told_in_name:%Y-%m-%dT%H:%M:%SZ}")
    rows = pl.DataFrame(
        {
            "hostname": [_host(file_name)],
            "time": [at],
            "watts": [found],
            LEFT_OUT_REASON: [
                None
                if "PowerControl" in resource or "PowerWatts" in resource
                else f"a Redfish {kind[:60]}, which tells no power"
            ],
        },
        schema=dict.fromkeys(("hostname", "time", "watts", LEFT_OUT_REASON), pl.String),
    )
    samples = assemble(
        rows,
        {
            "sampled_at": instant("time").required(
                "sampled_at", "ReadingTime, or a file name such as node0001_20261101T000000Z.json"
            ),
            "hostname": text("hostname").required(
                "hostname", "a file name such as node0001_20261101T000000Z.json"
            ),
            "power_w": number("watts", at_least=0).required(
                "power_w", "PowerControl[].PowerConsumedWatts or PowerWatts.Reading"
            ),
        },
    )
    return {"node_power_samples": samples}


def _power(resource: dict[str, Any]) -> tuple[str | None, str | None]:
    """Watts as text, and the time at which the sensor was read, where they are told."""
    controls = resource.get("PowerControl")
    watts = resource.get("PowerWatts")
    if isinstance(controls, list):
        told = [one.get("PowerConsumedWatts") for one in controls if isinstance(one, dict)]
        numbers = [one for one in told if isinstance(one, int | float)]
        return (str(max(numbers)) if numbers else None), None
    if isinstance(watts, dict):
        reading, read_at = watts.get("Reading"), watts.get("ReadingTime")
        return (None if reading is None else str(reading)), (
            read_at if isinstance(read_at, str) else None
        )
    return None, None


def _host(file_name: str) -> str | None:
    host = host_in_name(file_name)
    if host is not None and host.partition(".")[0].lower() not in _RESOURCES:
        return host.removesuffix(".json")
    folder = PurePosixPath(file_name.replace("!", "/")).parent.name
    return folder or None
