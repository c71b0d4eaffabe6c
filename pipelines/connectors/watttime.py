"""WattTime v3 answers (`historical`, `forecast`): emission rates of a grid region.

What belongs here: reading the average rate, `co2_aoer`. What does not: the marginal rate
(`co2_moer`), which says what one more kWh causes: no figure of the book is of it, and `grid_carbon`
holds averages alone, so it is left out and counted, as is damage to health. Which region a site
lies in is reference data (`carbon_zone`).

Rates are lb of CO2 per MWh, in g/kWh once multiplied by 0.45359237 (the international pound, in
kg): what power stations emit while they run, so a direct factor. The region keeps WattTime's own
name. A point holds for `data_point_period_seconds`, five minutes where that is not told. A
forecast is estimated and known since it was made, `generated_at`; so a later answer on what was
measured takes its place. A point that WattTime filled in (`imputed_data_used`) is estimated too.
"""

import json
from datetime import timedelta
from typing import Any

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import (
    Field,
    assemble,
    constant,
    decode,
    instant,
    number,
    text,
)

_EXPECTED = "an answer of WattTime's v3 historical or forecast (JSON with data and meta)"
_AVERAGE = "co2_aoer"
_NO_AVERAGE = {
    "co2_moer": "a marginal rate, which no figure of the book is of",
    "health_damage": "damage to health, no emissions",
}
_UNIT = "lbs_co2_per_mwh"
_G_PER_KWH = 0.45359237
_USUAL_PERIOD_S = 300
_LONGEST_S = 86_400


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read average emission rates, one row per point of time.

    Raises:
        UnreadableFile: when it is no such answer, or of an unknown signal or unit.
    """
    del file_name, context
    points, meta = _answer(content)
    signal, unit = (str(meta.get(name)) for name in ("signal_type", "units"))
    if signal not in (_AVERAGE, *_NO_AVERAGE):
        known = ", ".join((_AVERAGE, *_NO_AVERAGE))
        raise UnreadableFile(f"signal_type '{signal[:40]}': expected one of {known}")
    if signal == _AVERAGE and unit != _UNIT:
        raise UnreadableFile(f"units '{unit[:40]}': expected {_UNIT}")
    period = meta.get("data_point_period_seconds", _USUAL_PERIOD_S)
    if type(period) is not int or not 0 < period <= _LONGEST_S:
        raise UnreadableFile(
            f"data_point_period_seconds '{str(period)[:40]}': expected seconds, at most a day"
        )
    generated = meta.get("generated_at")
    told = None if signal == _AVERAGE else f"{signal}: {_NO_AVERAGE[signal]}"
    model = meta.get("model")
    version = model.get("date") if isinstance(model, dict) else None
    rows = pl.DataFrame(
        {
            "point_time": [_as_text(point.get("point_time")) for point in points],
            "value": [_as_text(point.get("value")) for point in points],
            "known_at": [
                _as_text(point.get("last_updated") or generated) for point in points
            ],
            "is_estimated": [
                generated is not None or point.get("imputed_data_used") is True
                for point in points
            ],
            "region": [_as_text(meta.get("region"))] * len(points),
            LEFT_OUT_REASON: [told] * len(points),
        },
        schema={
            **dict.fromkeys(("point_time", "value", "known_at"), pl.String),
            "is_estimated": pl.Boolean,
            **dict.fromkeys(("region", LEFT_OUT_REASON), pl.String),
        },
    )  # fmt: skip
    started = instant("point_time").required("point_time", "the start of the interval")
    rate = number("value", at_least=0).required("value", _UNIT)
    carbon = assemble(
        rows,
        {
            "zone": text("region").required("region", "the region, such as CAISO_NORTH"),
            "interval_started_at": started,
            "interval_ended_at": Field(started.value + timedelta(seconds=period)),
            "direct_g_per_kwh": Field(rate.value * _G_PER_KWH, rate.problems),
            "life_cycle_g_per_kwh": constant(None, pl.Float64),
            "is_estimated": Field(pl.col("is_estimated")),
            "data_source": constant(f"WattTime {signal}{f', model {version}' if version else ''}"),
            "known_at": instant("known_at"),
        },
    )
    return {"grid_carbon": carbon}


def _answer(content: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The points of an answer, and what it says of all of them."""
    try:
        answer = json.loads(decode(content, expected=_EXPECTED))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableFile):
            raise
        raise UnreadableFile(f"not JSON ({error}): expected {_EXPECTED}") from error
    points = answer.get("data") if isinstance(answer, dict) else None
    meta = answer.get("meta") if isinstance(answer, dict) else None
    if not isinstance(points, list) or not isinstance(meta, dict):
        raise UnreadableFile(f"the JSON has no data and meta: expected {_EXPECTED}")
    if not all(isinstance(point, dict) and "point_time" in point for point in points):
        raise UnreadableFile(
            "an entry of data has no point_time: expected one answer of historical or forecast, not"
            " a list of forecasts"
        )
    return points, meta


def _as_text(value: object) -> str | None:
    return None if value is None else str(value).strip() or None
