"""What the counterparties of the contracts charge for each month, and what is wrong with it.

What belongs here: the lines of the invoices, right ones and those with a placed error, and the
cause of each error. What does not: how a contract settles (`settlements.py`), when an error is
placed (`events.py`), and the CSV (`writers/invoices.py`).

An invoice says what its counterparty reckons from its own meters: nothing here reads the book.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Floats
from pipelines.simulator.settlements import SettledLine, settled_lines, within
from pipelines.simulator.site_settlements import SiteLine
from pipelines.simulator.world import World

Tables = Mapping[str, pl.DataFrame]

_ISSUED_AFTER = timedelta(days=1, hours=11)
"""From the end of the local month."""
_LATE_ISSUED_AFTER = {"franklin-lupinus2-vppa": timedelta(days=7, hours=10)}
"""Of contracts that are invoiced later."""
_UNITS = {
    "capacity": "kW",
    "demand": "kW",
    "fixed_fee": "MW-month",
    "commitment_used": "GPU-hour",
    "commitment_unused": "GPU-hour",
}
"""Of lines that are not about energy."""
_VOLUME_RATIO = 1.0125
_PRICE_STEP = 0.45
_UNAGREED_AMOUNT = 1250.0
_SCHEMA = pl.Schema(
    {
        "invoice_id": pl.String(),
        "invoice_line_number": pl.Int64(),
        "contract_id": pl.String(),
        "billing_month": pl.Date(),
        "line": pl.String(),
        "terms_from": pl.Date(),
        "quantity": pl.Float64(),
        "quantity_unit": pl.String(),
        "unit_price": pl.Float64(),
        "amount": pl.Float64(),
        "currency_code": pl.String(),
        "issued_at": pl.Datetime("us", "UTC"),
    }
)
ERROR_SCHEMA = pl.Schema(
    {
        "contract_id": pl.String(),
        "month": pl.String(),
        "line": pl.String(),
        "cause": pl.String(),
    }
)


@dataclass(frozen=True)
class Invoice:
    """An invoice as it was issued, and what is wrong with it."""

    path: str
    """Below landing/invoices."""
    issued_at: datetime
    lines: pl.DataFrame
    """Columns of the raw table that its source fills."""
    errors: pl.DataFrame
    """Columns of `ERROR_SCHEMA`, without rows where the invoice is right."""


@dataclass(frozen=True)
class _Charge:
    """A line of an invoice before it has a number."""

    line: str
    amount: float
    currency_code: str
    terms_from: date | None = None
    quantity: float | None = None
    quantity_unit: str = "MWh"
    unit_price: float | None = None


@dataclass(frozen=True)
class _Month:
    """What a contract settles at in a local month: one line per version of its terms."""

    lines: list[SettledLine]
    issued_at: datetime
    fx_rates: pl.DataFrame


def invoices(
    world: World, tables: Tables, site_lines: Iterable[SiteLine], until: datetime
) -> Iterator[Invoice]:
    """Every invoice issued before `until`, for the months that the world knows as a whole."""
    plants: dict[str, list[SettledLine]] = {}
    for line in settled_lines(world, tables, clock.interval_index(until)):
        plants.setdefault(line.contract_id, []).append(line)
    sites: dict[str, list[SiteLine]] = {}
    for site_line in site_lines:
        sites.setdefault(site_line.account.versions[0]["contract_id"], []).append(site_line)
    for contract_id, parts in plants.items():
        for name, started_at, ended_at in _months(parts[0].terms["time_zone"]):
            issued_at = ended_at + _LATE_ISSUED_AFTER.get(contract_id, _ISSUED_AFTER)
            if issued_at < until:
                in_month = [_cut(line, started_at, ended_at) for line in parts]
                charged = [line for line in in_month if len(line.spot)]
                month = _Month(charged, issued_at, tables["fx_rates"])
                yield _plant_invoice(contract_id, name, month, until)
    for lines in sites.values():
        terms = lines[0].account.versions[0]
        for name, started_at, ended_at in _months(terms["time_zone"]):
            issued_at = ended_at + _ISSUED_AFTER
            if issued_at < until and not terms["is_shadow_price"]:
                charges = list(_site_charges(lines, tables["tariffs"], started_at, ended_at))
                if charges:
                    yield _invoice(terms, name, issued_at, charges)


def _months(time_zone: str) -> Iterator[tuple[str, datetime, datetime]]:
    """The local months that begin within the world: name, start and end in UTC."""
    zone = ZoneInfo(time_zone)
    for number in range(1, 12):
        started_at = datetime(2026, number, 1, tzinfo=zone).astimezone(UTC)
        if started_at >= clock.WORLD_STARTED_AT:
            ended_at = datetime(2026, number + 1, 1, tzinfo=zone).astimezone(UTC)
            yield f"2026-{number:02}", started_at, ended_at


def _site_charges(
    lines: list[SiteLine], tariffs: pl.DataFrame, started_at: datetime, ended_at: datetime
) -> Iterator[_Charge]:
    """What a contract on a site comes to in a month: a line per terms and fixed price."""
    for item in lines:
        account = item.account
        first, last = clock.interval_index(started_at), clock.interval_index(ended_at)
        for terms in account.versions:
            held = account.span(terms)
            span = slice(max(first, held.start), min(last, held.stop))
            quantities, prices = item.quantity[span], item.price[span]
            if span.start >= span.stop:
                continue
            bases = tariffs.filter(contract_id=terms["contract_id"])["price_basis"]
            is_floating = item.line == "contract_credit" or (
                item.line == "energy" and "spot_plus" in bases
            )
            for price in [None] if is_floating else np.unique(prices):
                chosen = np.full(len(prices), fill_value=True) if price is None else prices == price
                quantity = math.fsum(quantities[chosen])
                amount = math.fsum(_amounts(quantities[chosen], prices[chosen]))
                unit_price = round(amount / quantity, 9) if price is None else float(price)
                yield _Charge(
                    line=item.line,
                    amount=_rounded(round(amount, 5), terms["rounding"]),
                    currency_code=terms["currency_code"],
                    terms_from=_terms_from(terms),
                    quantity=round(quantity, 9),
                    quantity_unit=_UNITS.get(item.line, "MWh"),
                    unit_price=round(unit_price, 9),
                )


def _terms_from(terms: Mapping[str, Any]) -> date:
    local: datetime = terms["valid_from_at"].astimezone(ZoneInfo(terms["time_zone"]))
    return local.date()


def _cut(line: SettledLine, started_at: datetime, ended_at: datetime) -> SettledLine:
    inside = within(line, started_at, ended_at)
    return replace(
        line,
        first=line.first + int(np.flatnonzero(inside)[0]) if inside.any() else line.first,
        metered_kwh=line.metered_kwh[inside],
        price=line.price[inside],
        spot=line.spot[inside],
    )


def _plant_invoice(contract_id: str, name: str, month: _Month, until: datetime) -> Invoice:
    error = events.INVOICE_ERRORS.get((contract_id, name))
    charges = _ERRORS[error](month) if error else _right(month)
    # Until the reading is replaced, the book knows no better than the invoice.
    is_known = error != "later_reading" or until >= events.PLANT_ESTIMATE.replaced_at
    line = _UNAGREED if error == "not_in_settlement" else month.lines[0].line
    wrong = [{"contract_id": contract_id, "month": name, "line": line, "cause": error}]
    invoice = _invoice(month.lines[0].terms, name, month.issued_at, charges)
    errors = pl.DataFrame(wrong if error and is_known else [], schema=ERROR_SCHEMA)
    return replace(invoice, errors=errors)


def _invoice(
    terms: Mapping[str, Any], name: str, issued_at: datetime, charges: list[_Charge]
) -> Invoice:
    contract_id = str(terms["contract_id"])
    rows = [
        {
            "invoice_id": f"{contract_id}-{name}",
            "invoice_line_number": number,
            "contract_id": contract_id,
            "billing_month": date.fromisoformat(f"{name}-01"),
            "line": charge.line,
            "terms_from": charge.terms_from,
            "quantity": charge.quantity,
            "quantity_unit": None if charge.quantity is None else charge.quantity_unit,
            "unit_price": charge.unit_price,
            "amount": charge.amount,
            "currency_code": charge.currency_code,
            "issued_at": issued_at,
        }
        for number, charge in enumerate(charges, start=1)
    ]
    counterparty = re.sub("[^a-z0-9]+", "-", str(terms["counterparty"]).lower()).strip("-")
    return Invoice(
        path=f"{counterparty}/{contract_id}-{name}.csv",
        issued_at=issued_at,
        lines=pl.DataFrame(rows, schema=_SCHEMA),
        errors=pl.DataFrame(schema=ERROR_SCHEMA),
    )


def invoice_errors(charged: Iterable[Invoice]) -> pl.DataFrame:
    """One row per placed error that the book can know of."""
    errors = [invoice.errors for invoice in charged]
    return pl.concat([pl.DataFrame(schema=ERROR_SCHEMA), *errors])


def _right(month: _Month) -> list[_Charge]:
    return [_charge(line) for line in month.lines]


def _charge(
    line: SettledLine,
    *,
    quantity_mwh: Floats | None = None,
    unit_price: Floats | None = None,
) -> _Charge:
    """What a line comes to, with its own quantity and price unless others are given."""
    quantities = line.quantity_mwh() if quantity_mwh is None else quantity_mwh
    prices = line.unit_price() if unit_price is None else unit_price
    quantity, amount = math.fsum(quantities), math.fsum(_amounts(quantities, prices))
    terms = line.terms
    return _Charge(
        line=line.line,
        amount=_rounded(round(amount, 5), terms["rounding"]),
        currency_code=terms["currency_code"],
        terms_from=_terms_from(terms),
        quantity=round(quantity, 9),
        unit_price=round(amount / quantity, 9) if line.is_floating else float(prices[0]),
    )


def _amounts(quantities: Floats, prices: Floats) -> Floats:
    return np.round(quantities * np.round(prices, 9), 9)


def _rounded(amount: float, rounding: str) -> float:
    mode = ROUND_HALF_UP if rounding == "half_up" else ROUND_HALF_EVEN
    return float(Decimal(str(amount)).quantize(Decimal("0.01"), mode))


def _wrong_volume(month: _Month) -> list[_Charge]:
    """Losses up to the plant's busbar, which the contract leaves to the seller, are charged."""
    charge = _charge(month.lines[0])
    assert charge.quantity is not None
    assert charge.unit_price is not None
    quantity = round(charge.quantity * _VOLUME_RATIO, 6)
    amount = _rounded(quantity * charge.unit_price, month.lines[0].terms["rounding"])
    return [replace(charge, quantity=quantity, amount=amount)]


def _wrong_price(month: _Month) -> list[_Charge]:
    line = month.lines[0]
    return [_charge(line, unit_price=line.unit_price() + _PRICE_STEP)]


def _without_clause(month: _Month) -> list[_Charge]:
    """Negative prices count in full: the volume is not voided, the price not floored."""
    return [
        _charge(
            line,
            quantity_mwh=line.quantity_mwh(has_clause=False),
            unit_price=line.unit_price(has_clause=False),
        )
        for line in month.lines
    ]


def _next_year(month: _Month) -> list[_Charge]:
    """The price of the contract year that has not begun yet."""
    [line] = month.lines
    ratio = 1 + line.terms["escalation_ratio_per_year"]
    return [_charge(line, unit_price=line.unit_price() + np.round(line.price * (ratio - 1), 9))]


def _in_euro(month: _Month) -> list[_Charge]:
    """In euro at the rate of the day of issue, where each day of delivery has its own."""
    [line] = month.lines
    charge = _charge(line)
    [rate] = month.fx_rates.filter(
        currency_code=charge.currency_code, rate_date=month.issued_at.date()
    )["rate_to_reporting"]
    assert charge.unit_price is not None
    return [
        replace(
            charge,
            unit_price=round(charge.unit_price * rate, 9),
            amount=_rounded(round(charge.amount * rate, 5), line.terms["rounding"]),
            currency_code="EUR",
        )
    ]


def _rounded_by_interval(month: _Month) -> list[_Charge]:
    [line] = month.lines
    amounts = _amounts(line.quantity_mwh(), line.unit_price()).tolist()
    cents = [_rounded(round(amount, 9), line.terms["rounding"]) for amount in amounts]
    return [replace(_charge(line), amount=round(math.fsum(cents), 2))]


def _on_estimated_reading(month: _Month) -> list[_Charge]:
    """The reading as it was before its replacement came."""
    estimate = events.PLANT_ESTIMATE
    charges = []
    for line in month.lines:
        inside = within(line, estimate.span.started_at, estimate.span.ended_at)
        estimated = np.round(line.metered_kwh * estimate.ratio, 3)
        known = replace(line, metered_kwh=np.where(inside, estimated, line.metered_kwh))
        charges.append(_charge(known))
    return charges


def _without_last_line(month: _Month) -> list[_Charge]:
    """The terms that began in the middle of the month are not charged for."""
    return _right(month)[:-1]


_UNAGREED = "balancing"


def _with_unagreed_line(month: _Month) -> list[_Charge]:
    currency = month.lines[0].terms["currency_code"]
    return [*_right(month), _Charge(_UNAGREED, _UNAGREED_AMOUNT, currency)]


_ERRORS: Mapping[str, Callable[[_Month], list[_Charge]]] = {
    "volume": _wrong_volume,
    "price": _wrong_price,
    "clause": _without_clause,
    "escalation": _next_year,
    "fx": _in_euro,
    "rounding": _rounded_by_interval,
    "later_reading": _on_estimated_reading,
    "missing_in_invoice": _without_last_line,
    "not_in_settlement": _with_unagreed_line,
}
