"""Terms of power purchase agreements: every mistake is told, what is right becomes flat rows."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines import reference
from pipelines.simulator.landing import DEMO_REFERENCE

COMMON = """\
name: New contract
site_id: juelich
counterparty: Wind GmbH
settlement_zone: DE-LU
market: day_ahead
time_zone: Europe/Berlin
currency_code: EUR
energy_source: wind
"""
CONTRACTS = {
    "pap": """\
kind: ppa_pay_as_produced
certificates: separate
plant_meter_id: LUP-SOLAR
plant_capacity_mw: 60
share_of_plant: 0.1
terms:
  - valid_from: 2026-01-01
    price_per_mwh: 50
    certificate_price_per_mwh: 2
    negative_price_clause: no_volume
    negative_price_hours: 4
    escalation: {kind: fixed, base_date: 2026-01-01, ratio_per_year: 0.02}
    annual_volume_mwh: 9000
    tolerance_ratio: 0.1
    shortfall_price_per_mwh: 20
    excess_price_per_mwh: 15
    p50_mwh: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    p90_mwh: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5]
""",
    "base": """\
kind: ppa_baseload
certificates: none
tax_treatment: reverse_charge
terms:
  - {valid_from: 2026-01-01, valid_to: 2026-07-01, baseload_mw: 2, price_per_mwh: 71,
     shape_risk: seller}
  - valid_from: 2026-07-01
    baseload_mw: 2
    price_per_mwh: 72
    shape_risk: seller
    escalation:
      kind: cpi
      base_date: 2026-07-01
      index: HICP-DE
      base_month: 2026-04
      lag_months: 3
      floor_ratio_per_year: 0.01
      cap_ratio_per_year: 0.03
""",
    "shape": """\
kind: ppa_fixed_shape
certificates: bundled
terms:
  - valid_from: 2026-01-01
    price_per_mwh: 65
    shape:
      - {day_kind: workday, hours: [8, 20], mw: 3}
      - {months: [10, 12], day_kind: weekend, hours: [8, 20], mw: 1}
""",
    "cfd": """\
kind: vppa_cfd
certificates: none
plant_meter_id: LUP-SOLAR
plant_capacity_mw: 60
share_of_plant: 0.1
settlement_period_minutes: 60
terms:
  - valid_from: 2026-01-01
    price_per_mwh: 50
    fixed_price_payer: counterparty
    negative_price_clause: zero_floor
""",
    "collar": """\
kind: collar
certificates: none
plant_meter_id: LUP-SOLAR
plant_capacity_mw: 60
share_of_plant: 0.1
terms:
  - {valid_from: 2026-01-01, floor_price_per_mwh: 30, cap_price_per_mwh: 60}
""",
}
INDICES = "index,month,value\nHICP-DE,2026-04,128.4\n"


def with_contract(tmp_path: Path, name: str, old: str = "", new: str = "") -> Path:
    """The project's reference data and one contract, with one thing in it changed."""
    folder = tmp_path / "reference"
    if not folder.exists():
        shutil.copytree(DEMO_REFERENCE, folder)
    text = f"contract_id: new-{name}\n{COMMON}{CONTRACTS[name]}"
    assert not old or text.count(old) == 1
    (folder / "contracts" / f"new-{name}.yml").write_text(text.replace(old, new) if old else text)
    (folder / "price_indices.csv").write_text(INDICES)
    return folder


def causes(folder: Path) -> list[str]:
    with pytest.raises(reference.ReferenceErrors) as raised:
        reference.load(folder)
    return raised.value.causes


MISTAKES = {
    "tax_on_what_is_not_taxed": (
        "base",
        "tax_treatment: reverse_charge\n",
        "tax_treatment: reverse_charge\ntax_ratio: 0.19\n",
        ":1: found tax_ratio 0.19 with tax_treatment reverse_charge, expected 0 unless it is"
        " standard: correct one of the two",
    ),
    "a_rounding_nobody_knows": (
        "base",
        "tax_treatment: reverse_charge",
        "rounding: half_down",
        ":12: rounding: found 'half_down', expected half_even or half_up: perhaps half_even",
    ),
    "a_settlement_period_of_20_minutes": (
        "cfd",
        "settlement_period_minutes: 60",
        "settlement_period_minutes: 20",
        ":15: settlement_period_minutes: found 20, expected 15, 30, 60 or month: correct it",
    ),
    "separate_certificates_without_a_price": (
        "pap",
        "    certificate_price_per_mwh: 2\n",
        "",
        ":16: terms.0.certificate_price_per_mwh: not found, expected it where certificates are"
        " separate: add the field",
    ),
    "a_price_for_certificates_that_are_bundled": (
        "pap",
        "certificates: separate",
        "certificates: bundled",
        ":18: terms.0.certificate_price_per_mwh: found 2.0, expected none where certificates are"
        " bundled: remove it or make them separate",
    ),
    "half_a_volume_band": (
        "pap",
        "    excess_price_per_mwh: 15\n",
        "",
        ":16: terms.0: found a volume band without excess_price_per_mwh, expected all of"
        " annual_volume_mwh, tolerance_ratio, shortfall_price_per_mwh, excess_price_per_mwh, or"
        " none: add what is missing",
    ),
    "eleven_months": (
        "pap",
        "    p50_mwh: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]",
        "    p50_mwh: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]",
        ":26: terms.0.p50_mwh: found 11 entries, expected a list of 12 entries: add what is"
        " missing",
    ),
    "a_p90_above_the_p50": (
        "pap",
        "0.5]",
        "1.5]",
        ":16: terms.0: found p90_mwh above p50_mwh, expected in every month at most as much: what"
        " is exceeded in 90 of 100 years is the smaller; correct one of the two",
    ),
    "hours_without_a_clause": (
        "pap",
        "negative_price_clause: no_volume",
        "negative_price_clause: none",
        ":16: terms.0: found negative_price_hours, negative_price_scope or"
        " negative_price_period_minutes without a clause they belong to: set negative_price_clause"
        " or remove them",
    ),
    "a_clock_of_a_floor_that_is_not_its_prices": (
        "cfd",
        "negative_price_clause: zero_floor",
        "negative_price_clause: zero_floor\n    negative_price_period_minutes: 15",
        ":17: terms.0: found negative_price_period_minutes with zero_floor, which floors the price"
        " of the settlement period itself: remove it, or make the clause no_volume",
    ),
    "hours_in_a_row_of_a_month": (
        "pap",
        "certificates: separate\n",
        "certificates: separate\nsettlement_period_minutes: month\n",
        ":17: terms.0.negative_price_period_minutes: not found, expected it where a contract that"
        " settles by the month counts negative hours: add 15, 30 or 60",
    ),
    "more_hours_than_a_day_has": (
        "pap",
        "negative_price_hours: 4",
        "negative_price_hours: 25",
        ":20: terms.0.negative_price_hours: found 25, expected a whole number from 1 to 24:"
        " correct it",
    ),
    "a_floor_for_a_price_that_does_not_float": (
        "pap",
        "negative_price_clause: no_volume",
        "negative_price_clause: zero_floor",
        ":19: terms.0.negative_price_clause: found 'zero_floor', expected none or no_volume: only"
        " a vppa_cfd or a collar has a floating price to floor",
    ),
    "an_unknown_escalation": (
        "pap",
        "kind: fixed, base_date",
        "kind: stepped, base_date",
        ":21: terms.0.escalation.kind: found 'stepped', expected cpi or fixed: correct it",
    ),
    "a_plant_without_a_share": (
        "collar",
        "share_of_plant: 0.1\n",
        "",
        ":1: share_of_plant: not found, expected a number from 0 to 1: add the field",
    ),
    "half_a_plant": (
        "base",
        "tax_treatment: reverse_charge\n",
        "plant_meter_id: LUP-SOLAR\n",
        ":1: found a plant without plant_capacity_mw, share_of_plant, expected all of"
        " plant_meter_id, plant_capacity_mw, share_of_plant, or none: add what is missing",
    ),
    "a_shape_at_the_buyers_risk_without_a_plant": (
        "base",
        "price_per_mwh: 72\n    shape_risk: seller",
        "price_per_mwh: 72\n    shape_risk: buyer",
        ":19: terms.1.shape_risk: found 'buyer', expected plant_meter_id, plant_capacity_mw and"
        " share_of_plant with it: without the plant's reading nobody knows the rest",
    ),
    "terms_with_a_gap": (
        "base",
        "valid_to: 2026-07-01",
        "valid_to: 2026-06-01",
        ":16: terms.1.valid_from: found 2026-07-01, expected 2026-06-01, when the terms before"
        " end: leave no gap",
    ),
    "an_index_that_nothing_declares": (
        "base",
        "index: HICP-DE",
        "index: CPI-U",
        ":23: terms.1.escalation.index: found 'CPI-U', expected a name declared in"
        " price_indices.csv",
    ),
    "a_base_month_without_a_value": (
        "base",
        "base_month: 2026-04",
        "base_month: 2026-03",
        ":24: terms.1.escalation.base_month: found '2026-03', expected a month of HICP-DE in"
        " price_indices.csv: add it there",
    ),
    "an_escalation_with_its_floor_above_its_cap": (
        "base",
        "floor_ratio_per_year: 0.01",
        "floor_ratio_per_year: 0.04",
        ":20: terms.1.escalation: found floor_ratio_per_year 0.04 above cap_ratio_per_year 0.03,"
        " expected it at most as high: correct one of the two",
    ),
    "windows_that_overlap": (
        "shape",
        "day_kind: weekend",
        "day_kind: all",
        ":13: terms.0: found 2 powers for month 10, workday, hour 8, expected at most one: correct"
        " months, day_kind or hours",
    ),
    "a_window_across_midnight": (
        "shape",
        "day_kind: workday, hours: [8, 20]",
        "day_kind: workday, hours: [20, 8]",
        ":16: terms.0.shape.0: expected months and hours that run forward: split the window where"
        " the year or the day ends",
    ),
    "a_strike_that_nobody_pays": (
        "cfd",
        "fixed_price_payer: counterparty",
        "fixed_price_payer: seller",
        ":19: terms.0.fixed_price_payer: found 'seller', expected buyer or counterparty:"
        " correct it",
    ),
    "a_collar_with_its_floor_above_its_cap": (
        "collar",
        "floor_price_per_mwh: 30",
        "floor_price_per_mwh: 70",
        ":16: terms.0: found floor_price_per_mwh 70.0 above cap_price_per_mwh 60.0, expected it at"
        " most as high: correct one of the two",
    ),
}


@pytest.mark.parametrize(("name", "old", "new", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistaken_terms_are_refused_before_anything_is_settled(
    tmp_path: Path, name: str, old: str, new: str, message: str
):
    assert causes(with_contract(tmp_path, name, old, new)) == [f"contracts/new-{name}.yml{message}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "month,index,value\n",
            "price_indices.csv:1: found columns month, index, value, expected index, month, value",
        ),
        (
            f"{INDICES}HICP-DE,2026-13,1\n",
            "price_indices.csv:3: found 'HICP-DE,2026-13,1', expected an index, a month as 2026-04"
            " not given before for it, and a value above 0",
        ),
        (
            f"{INDICES}HICP-DE,2026-04,128.5\n",
            "price_indices.csv:3: found 'HICP-DE,2026-04,128.5', expected an index, a month as"
            " 2026-04 not given before for it, and a value above 0",
        ),
        (
            f"{INDICES}HICP-DE,2026-05,0\n",
            "price_indices.csv:3: found 'HICP-DE,2026-05,0', expected an index, a month as 2026-04"
            " not given before for it, and a value above 0",
        ),
    ],
)
def test_a_wrong_index_is_named_with_its_line(tmp_path: Path, text: str, message: str):
    folder = with_contract(tmp_path, "base")
    (folder / "price_indices.csv").write_text(text)

    assert causes(folder) == [message]


def test_a_contract_may_settle_by_the_month_and_its_clause_by_the_hour(tmp_path: Path):
    folder = with_contract(tmp_path, "pap")
    file = folder / "contracts" / "new-pap.yml"
    text = file.read_text().replace(
        "    negative_price_hours: 4\n",
        "    negative_price_hours: 4\n    negative_price_period_minutes: 60\n",
    )
    file.write_text(text.replace("terms:\n", "settlement_period_minutes: month\nterms:\n"))
    tables = reference.flatten(reference.load(folder))

    new = tables["contracts"].filter(contract_id="new-pap")
    columns = ("settlement_period_minutes", "negative_price_period_minutes", "negative_price_hours")
    assert new.select(columns).rows() == [(None, 60, 4)]


def test_terms_of_every_kind_become_flat_rows(tmp_path: Path):
    for name in CONTRACTS:
        folder = with_contract(tmp_path, name)
    tables = reference.flatten(reference.load(folder))

    new = tables["contracts"].filter(pl.col("contract_id").str.starts_with("new-"))
    columns = ("contract_id", "certificates", "are_certificates_bundled", "price_per_mwh")
    terms = ("negative_price_clause", "negative_price_hours", "settlement_period_minutes")
    assert new.select(*columns, *terms).sort("contract_id", "price_per_mwh").rows() == [
        ("new-base", "none", False, 71.0, "none", 1, 15),
        ("new-base", "none", False, 72.0, "none", 1, 15),
        ("new-cfd", "none", False, 50.0, "zero_floor", 1, 60),
        ("new-collar", "none", False, None, "none", 1, 15),
        ("new-pap", "separate", False, 50.0, "no_volume", 4, 15),
        ("new-shape", "bundled", True, 65.0, "none", 1, 15),
    ]
    escalation = [column for column in new.columns if column.startswith("escalation_")]
    assert new.filter(pl.col("price_per_mwh") == 72).select(escalation).row(0, named=True) == {
        "escalation_kind": "cpi",
        "escalation_index": "HICP-DE",
        "escalation_ratio_per_year": None,
        "escalation_floor_ratio_per_year": 0.01,
        "escalation_cap_ratio_per_year": 0.03,
        "escalation_lag_months": 3,
        "escalation_base_date": date(2026, 7, 1),
        "escalation_base_month": date(2026, 4, 1),
    }
    started_at = datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert tables["contract_shapes"].rows() == [
        ("new-shape", "workday", started_at, 1, 12, 8, 20, 3.0),
        ("new-shape", "weekend", started_at, 10, 12, 8, 20, 1.0),
    ]
    assert tables["price_indices"].rows() == [("HICP-DE", date(2026, 4, 1), 128.4)]
