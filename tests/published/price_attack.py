"""An attack on published tables: prices of contracts worked out from their columns.

What belongs here: what somebody tries who has the tables, exchange rates and an idea of what a
price may be counted by, and wants the price. What does not: whose tables are attacked
(`test_confidentiality.py`).

Tried is each column that is no physical quantity: by itself, its ratio to each other column, its
difference from others of its kind, and its line over each other column, slope and intercept; over
the whole table and over the rows of each site, source, workload and so on; in the currency of the
contract and in that of the book. A row without currency has no money in it.

A guess of every row recovers a price where it comes within `TOLERANCE` of it in a share of the rows
that is no chance: numbers that merely vary come as close to prices that nobody has, up to four per
cent beside it, and as often. A slope or intercept recovers one where it is exact, its standard
error below the tolerance too. A price is looked for in the rows of its contract's site. In the rows
of a week or month a guess varies little and may lie on a price by chance, which it does not do in
many of them. A cost per GPU-hour is compared with others per GPU-hour and with ratios, for over
megawatts or a number of incidents it is no price.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

TOLERANCE = 2e-3
# A price is hit by so many rows, and by so many times as many as the prices beside it are, on the
# mean and each of the nearest four.
FEWEST_ROWS = 5
ABOVE_CHANCE = 10
ABOVE_NEXT = 4
LEAST_SHARE = 0.05
BESIDE = np.array([1 + sign * step / 1000 for step in range(4, 44, 4) for sign in (1, -1)])

PHYSICAL = re.compile(
    r"(_k?wh|_mwh|_mw|_k?g|_ratio|_count|_hours|_minutes|_per_kwh|_sensitive|_tolerant|_number"
    r"|_interruptions|_kwh_per_gpu_hour|_g_per_gpu_hour|_bytes|_sequence|_quantity)$"
)
# Order, and say nothing of amounts.
ORDINALS = ("rank", "severity", "week_count")
PER_GPU_HOUR = re.compile("_per_gpu_hour$")
BESIDE_PER_GPU_HOUR = re.compile("(_per_gpu_hour|_ratio)$")
# What operations decides itself, and no contract.
GIVEN = (
    *("variable_cost_per_gpu_hour", "value_per_lost_gpu_hour", "target_value"),
    *("lost_value", "power_limit_lost_value"),
)
# Their product is what the site draws for a GPU-hour, and so what its energy is paid by.
BEFORE_PUE = ("incremental_kwh_per_gpu_hour", "applied_pue_ratio")
TIMES = ("week", "local_month")
FEWEST_TIMES = 3
MOST_GROUPS = 40
MOST_ROWS = 4000

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Price:
    """A price, its currency, and the multiples in which it may show."""

    name: str
    site_id: str
    value: float
    currency_code: str
    multiples: tuple[float, ...] = (1.0,)


def recovered(table: pl.DataFrame, prices: list[Price], rates: pl.DataFrame) -> dict[str, str]:
    """Price -> the first guess that recovers it."""
    if "currency_code" in table:
        table = table.filter(pl.col("currency_code").is_not_null())
    if {*BEFORE_PUE} <= set(table.columns):
        table = table.with_columns(
            (pl.col(BEFORE_PUE[0]) * pl.col(BEFORE_PUE[1])).alias("facility_kwh_per_gpu_hour")
        )
    numbers = [
        name
        for name, kind in table.schema.items()
        if kind.is_numeric() and name not in ORDINALS and table[name].is_not_null().any()
    ]
    money = [name for name in numbers if not PHYSICAL.search(name) and name not in GIVEN]
    if not money:
        return {}
    hits: dict[tuple[str, str, str], int] = {}
    for site_id, by, rows in _groups(_with_rates(table, rates)):
        values = {name: rows[name].cast(pl.Float64).to_numpy() for name in numbers}
        for code in {price.currency_code for price in prices}:
            rate = rows[code].to_numpy()
            wanted = [
                price
                for price in prices
                if price.currency_code == code and site_id in (None, price.site_id)
            ]
            for what, guesses in _guesses(values, money):
                for unit, divisor in (("", 1.0), (f" in {code}", rate)):
                    for price in _hit(guesses / divisor, wanted):
                        _add(hits, price, f"{what}{unit}", by)
            mean_rate = float(np.nanmean(rate)) if np.isfinite(rate).any() else 1.0
            for what, value, error in _lines(values, money):
                for price in wanted:
                    for target in _targets(price, mean_rate):
                        if abs(value - target) + 2 * error < TOLERANCE * target:
                            _add(hits, price, what, by)
    return {
        name: f"{what} by {by} ({count} times)"
        for (name, what, by), count in hits.items()
        if count >= (FEWEST_TIMES if by in TIMES else 1)
    }


def _add(hits: dict[tuple[str, str, str], int], price: Price, what: str, by: str) -> None:
    hits[price.name, what, by] = hits.get((price.name, what, by), 0) + 1


def _pairs(names: Iterable[str], money: list[str]) -> Iterator[tuple[str, str]]:
    for a, b in product(money, names):
        if a != b and (not PER_GPU_HOUR.search(a) or BESIDE_PER_GPU_HOUR.search(b)):
            yield a, b


def _targets(price: Price, rate: float) -> Iterator[float]:
    for multiple in price.multiples:
        yield price.value * multiple
        yield price.value * multiple * rate


def _with_rates(table: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
    """The table with a column per currency: the day's rate, 1 where a row has no day."""
    wide = rates.pivot(on="currency_code", index="rate_date", values="rate_to_reporting")
    codes = [name for name in wide.columns if name != "rate_date"]
    time = next(
        (
            name
            for name in ("utc_date", "local_date", "interval_started_at", "local_month")
            if name in table
        ),
        None,
    )
    if time is None:
        return table.with_columns(pl.lit(1.0).alias(code) for code in codes)
    return (
        table.with_columns(rate_date=pl.col(time).cast(pl.Date))
        .sort("rate_date")
        .join_asof(wide.sort("rate_date"), on="rate_date", strategy="backward")
    )


def _groups(frame: pl.DataFrame) -> Iterator[tuple[str | None, str, pl.DataFrame]]:
    """Rows of each site, all of them and by each column that has few values."""
    sites = frame.partition_by("site_id", as_dict=True) if "site_id" in frame else {(None,): frame}
    for (site_id,), of_site in sites.items():
        few = [
            name
            for name, kind in frame.schema.items()
            if (kind in (pl.String, pl.Boolean) or name == "local_month")
            and 1 < of_site[name].n_unique() <= MOST_GROUPS
        ]
        for name in (None, *few):
            parts = (
                {("all rows",): of_site}
                if name is None
                else of_site.partition_by(name, as_dict=True)
            )
            for rows in parts.values():
                sampled = rows.sample(min(MOST_ROWS, len(rows)), seed=1)
                if len(sampled) >= FEWEST_ROWS:
                    yield site_id, name or "site", sampled


def _guesses(values: dict[str, Numbers], money: list[str]) -> Iterator[tuple[str, Numbers]]:
    for a in money:
        yield a, values[a]
    with np.errstate(divide="ignore", invalid="ignore"):
        for a, b in _pairs(values, money):
            yield f"{a} / {b}", values[a] / values[b]
            if not PHYSICAL.search(b):
                yield f"{a} - {b}", values[a] - np.where(values[b] == 0, np.nan, values[b])


def _hit(guesses: Numbers, prices: list[Price]) -> list[Price]:
    sizes = np.abs(guesses)
    ordered = np.sort(np.log(sizes[np.isfinite(sizes) & (sizes > 0)]))
    if len(ordered) < FEWEST_ROWS or not prices:
        return []
    targets = [(price, multiple) for price in prices for multiple in price.multiples]
    logs = np.log([price.value * multiple for price, multiple in targets])
    at = _count(ordered, logs)
    enough = at >= max(FEWEST_ROWS, LEAST_SHARE * len(ordered))
    if not enough.any():
        return []
    beside = _count(ordered, logs[:, None] + np.log(BESIDE))
    is_leak = (
        enough
        & (at >= FEWEST_ROWS + ABOVE_CHANCE * beside.mean(axis=1))
        & (at >= ABOVE_NEXT * beside[:, :4].max(axis=1))
    )
    return [targets[i][0] for i in np.flatnonzero(is_leak)]


def _count(ordered: Numbers, logs: Numbers) -> NDArray[np.int64]:
    return np.searchsorted(ordered, logs + TOLERANCE, "right") - np.searchsorted(
        ordered, logs - TOLERANCE, "left"
    )


def _lines(values: dict[str, Numbers], money: list[str]) -> Iterator[tuple[str, float, float]]:
    """Slope and intercept, as sizes, of a line over each other column, with standard errors."""
    for y, x in _pairs(values, money):
        is_known = np.isfinite(values[y]) & np.isfinite(values[x])
        if is_known.sum() < FEWEST_ROWS:
            continue
        ys, xs = values[y][is_known], values[x][is_known]
        spread = np.square(xs - xs.mean()).sum()
        if spread < 1e-12 * max(1.0, np.square(xs).sum()):
            continue
        slope = float(((xs - xs.mean()) * ys).sum() / spread)
        intercept = float(ys.mean() - slope * xs.mean())
        rest = np.square(ys - intercept - slope * xs).sum() / (len(xs) - 2)
        yield f"slope of {y} on {x}", abs(slope), float(np.sqrt(rest / spread))
        offset = float(np.sqrt(rest * (1 / len(xs) + xs.mean() ** 2 / spread)))
        yield f"intercept of {y} on {x}", abs(intercept), offset
