"""SunSpec: the points of a battery's models as a gateway dumps them, JSON.

What belongs here: reading storage (model 802, or 713 and 714) and the AC measurement of its
inverter (701). What does not: Modbus itself, inverters without storage, and the sign of `power_kw`
(pinned per battery in reference data).

A dump is what pysunspec2's `get_json()` writes of a device, with the time that the gateway took it:

    {"name": "sparks-bess", "timestamp": "2026-05-04T00:00:00Z", "models": [
        {"ID": 802, "L": 62, "WHRtg": 6300, "WHRtg_SF": 4, "SoC": 575, "SoC_SF": -1, …},
        {"ID": 701, "W": -1200, "W_SF": 3, "InvSt": 3, …}]}

A file holds one dump or a list of them; each is a sample. `name` (or `did`) is the battery's id.
Without `timestamp` the time is that in the file's name, as in `bess_20260504T000000Z.json`. Points
are as registers hold them, whole numbers that are multiplied by 10 to the power of their scale
factor (1 where that is not implemented); a number with decimals was scaled already, by
`get_json(computed=True)`, and is rejected, since what is scaled twice cannot be told from what is
not. A point that is null or has its type's value for it (0xFFFF, 0x8000) is not implemented.

Of each sample the state of charge and the capacity come from one model: 713, of which the capacity
is the rating times the state of health, else 802. Power is W of 701 where that model is there, else
W of 802, else DCW of 714. What it could take and give are the greatest rates of 802. An inverter
that is off counts as disconnected; one that has left the grid does not, as it may form its own.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import (
    Field,
    assemble,
    decode,
    instant,
    problem,
    problem_in,
    text,
    time_in_name,
)

_EXPECTED = (
    "a JSON dump of a SunSpec device, or a list of them: name, timestamp, models with their points"
)
_BATTERY, _STORAGE, _DC, _AC = 802, 713, 714, 701
_SCALE_AT_MOST = 10
_UNSIGNED_NULL, _SIGNED_NULL = 0xFFFF, -0x8000
# 802.State, 701.InvSt, 713.Sta and 802.ChaSt, in numbers of their enumerations.
_BANK_FAULT, _INVERTER_FAULT, _STORAGE_ERROR = 99, 6, 2
_BANK_DISCONNECTED, _INVERTER_OFF = 1, 0
_BANK_STANDBY = (2, 4, 6)
_INVERTER_STANDBY = (1, 2, 5, 7)
_CHARGE_STATES = {
    1: "standby",
    2: "holding",
    3: "discharging",
    4: "charging",
    5: "holding",
    6: "holding",
    7: "standby",
}
_SAMPLE = {
    "battery_id": pl.String,
    "timestamp": pl.String,
    "state_of_charge_ratio": pl.Float64,
    "power_kw": pl.Float64,
    "available_charge_kw": pl.Float64,
    "available_discharge_kw": pl.Float64,
    "energy_capacity_kwh": pl.Float64,
    "state": pl.String,
    "problem": pl.String,
    LEFT_OUT_REASON: pl.String,
}

_Models = dict[int, Mapping[str, Any]]


class _NoRegisterValue(ValueError):  # noqa: N818 - what is wrong with one point of one sample
    """A point that is not as a register holds it."""


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read battery samples, one per dump of a device.

    Raises:
        UnreadableFile: when it is no such dump.
    """
    del context
    devices, is_list = _devices(content)
    of_file = None if is_list else time_in_name(file_name)
    samples = pl.DataFrame(
        [_sample(device, of_file) for device in devices], schema=_SAMPLE, orient="row"
    )
    charge = pl.col("state_of_charge_ratio")
    out_of_range = problem(
        (charge < 0) | (charge > 1),
        field="SoC",
        found=(charge * 100).round(6),
        expected="0 to 100 percent",
    )
    is_whole = pl.col("problem").is_null()
    no_state = problem(
        is_whole & pl.col("state").is_null(),
        field="the state",
        found=None,
        expected="ChaSt of model 802, or W of model 701",
    )
    numbers = ("power_kw", "available_charge_kw", "available_discharge_kw", "energy_capacity_kwh")
    rows = assemble(
        samples,
        {
            "battery_id": text("battery_id").required("name", "the battery's id"),
            "sampled_at": instant("timestamp").required("timestamp", "a time with its zone"),
            "state_of_charge_ratio": Field(charge, (out_of_range,)),
            **{name: Field(pl.col(name)) for name in numbers},
            "state": Field(pl.col("state"), (no_state,)),
        },
        problems=(problem_in("problem"),),
    )
    return {"battery_samples": rows}


def _devices(content: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The dumps of a file, and whether they stand in a list."""
    told = decode(content, expected=_EXPECTED)
    try:
        dump = json.loads(told)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"not JSON ({error}): expected {_EXPECTED}") from error
    if isinstance(dump, dict) and "group" in dump and "models" not in dump:
        raise UnreadableFile(
            f"the definition of SunSpec model {str(dump.get('id'))[:9]}, which holds no value:"
            f" expected {_EXPECTED}"
        )
    devices = dump if isinstance(dump, list) else [dump]
    if not devices or not all(
        isinstance(device, dict) and isinstance(device.get("models"), list) for device in devices
    ):
        raise UnreadableFile(f"the JSON has no list of models: expected {_EXPECTED}")
    return devices, isinstance(dump, list)


def _sample(device: Mapping[str, Any], of_file: datetime | None) -> tuple[object, ...]:
    """The columns of `_SAMPLE` that a dump comes to."""
    at = device.get("timestamp") or (of_file and of_file.isoformat())
    of_device = (_as_text(device.get("name") or device.get("did")), _as_text(at))
    nothing = (None,) * 6
    try:
        models = _models(device["models"])
        if not models.keys() & {_BATTERY, _STORAGE}:
            return (*of_device, *nothing, None, "no storage model (802 or 713)")
        return (*of_device, *_figures(models), None, None)
    except _NoRegisterValue as error:
        return (*of_device, *nothing, str(error), None)


def _models(told: list[Any]) -> _Models:
    """Models of a dump that are read here, by their number."""
    models: _Models = {}
    for model in told:
        number = model.get("ID", model.get("model_id")) if isinstance(model, dict) else None
        if type(number) is not int or number not in (_BATTERY, _STORAGE, _DC, _AC):
            continue
        if number in models:
            raise _NoRegisterValue(
                f"two models {number} in one dump: expected one battery, dump each on its own"
            )
        models[number] = model
    return models


def _figures(models: _Models) -> tuple[object, ...]:
    battery, storage, inverter = (models.get(one, {}) for one in (_BATTERY, _STORAGE, _AC))
    charge_pct = _point(storage, "SoC", "Pct_SF")
    capacity_wh = _point(storage, "WHRtg", "WH_SF")
    health_pct = _point(storage, "SoH", "Pct_SF")
    if charge_pct is None and battery:
        charge_pct = _point(battery, "SoC", "SoC_SF")
        capacity_wh, health_pct = _point(battery, "WHRtg", "WHRtg_SF"), None
    if capacity_wh is not None and health_pct is not None:
        capacity_wh *= health_pct / 100
    ac_w = _point(inverter, "W", "W_SF", is_signed=True)
    power_w = ac_w
    if _AC not in models:
        power_w = _point(battery, "W", "W_SF", is_signed=True)
        if power_w is None:
            power_w = _point(models.get(_DC, {}), "DCW", "DCW_SF", is_signed=True)
    return (
        None if charge_pct is None else charge_pct / 100,
        _kilo(power_w),
        _kilo(_point(battery, "WChaRteMax", "WChaDisChaMax_SF")),
        _kilo(_point(battery, "WDisChaRteMax", "WChaDisChaMax_SF")),
        _kilo(capacity_wh),
        _state(battery, storage, inverter, ac_w),
    )


def _state(
    battery: Mapping[str, Any],
    storage: Mapping[str, Any],
    inverter: Mapping[str, Any],
    ac_w: float | None,
) -> str | None:
    bank, charging = _point(battery, "State"), _point(battery, "ChaSt")
    running, is_on = _point(inverter, "InvSt"), _point(inverter, "St")
    if bank == _BANK_FAULT or running == _INVERTER_FAULT:
        return "fault"
    if _point(storage, "Sta") == _STORAGE_ERROR:
        return "fault"
    if bank == _BANK_DISCONNECTED or _INVERTER_OFF in (running, is_on):
        return "disconnected"
    if charging is not None:
        return _CHARGE_STATES.get(int(charging))
    if bank in _BANK_STANDBY or running in _INVERTER_STANDBY:
        return "standby"
    if ac_w is None:
        return None
    # Model 701 fixes the sign: what the inverter gives is positive.
    return "discharging" if ac_w > 0 else "charging" if ac_w < 0 else "holding"


def _point(
    model: Mapping[str, Any], name: str, scale: str | None = None, *, is_signed: bool = False
) -> float | None:
    """Value of a point in its unit; null where it is not implemented.

    Raises:
        _NoRegisterValue: It is no whole number, or its scale factor is none from -10 to 10.
    """
    value = _whole(model, name, _SIGNED_NULL if is_signed else _UNSIGNED_NULL)
    factor = _whole(model, scale, _SIGNED_NULL) if scale else None
    if value is None or factor is None:
        return value
    if abs(factor) > _SCALE_AT_MOST:
        raise _NoRegisterValue(f"{scale} {factor}: expected a scale factor from -10 to 10")
    return value * 10.0**factor if factor > 0 else value / 10.0**-factor


def _whole(model: Mapping[str, Any], name: str, is_null: int) -> int | None:
    value = model.get(name)
    if value is None or value == is_null:
        return None
    if type(value) is not int or abs(value) > 1 << 64:
        raise _NoRegisterValue(
            f"{name} '{str(value)[:40]}': expected the whole number of its register; dump the"
            " points as they are, not computed ones"
        )
    if value < 0 and is_null == _UNSIGNED_NULL:
        raise _NoRegisterValue(f"{name} {value}: expected 0 or more, its register has no sign")
    return value


def _kilo(value: float | None) -> float | None:
    return None if value is None else value / 1000


def _as_text(value: object) -> str | None:
    return None if value in (None, "") else str(value)
