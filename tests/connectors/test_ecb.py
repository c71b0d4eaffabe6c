"""Reference rates of the European Central Bank, laid out as its data portal documents."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.connectors import ecb
from pipelines.connectors.common import UnreadableFile
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)

HEADER = (
    "KEY,FREQ,CURRENCY,CURRENCY_DENOM,EXR_TYPE,EXR_SUFFIX,TIME_PERIOD,OBS_VALUE,OBS_STATUS,"
    "OBS_CONF,TITLE,TITLE_COMPL,UNIT,UNIT_MULT"
)


def line(
    day: str = "2026-05-04", value: str = "1.1367", *, frequency: str = "D", base: str = "EUR"
) -> str:
    key = f"EXR.{frequency}.USD.{base}.SP00.A,{frequency},USD,{base},SP00,A"
    titles = 'US dollar/Euro,"ECB reference exchange rate, US dollar/Euro, 2:15 pm (C.E.T.)"'
    return f"{key},{day},{value},A,F,{titles},USD,0"


def read(*lines, header=HEADER):
    content = "\r\n".join([header, *lines, ""]).encode()
    frame = ecb.read(content, file_name="x.csv", context=CONTEXT)["exchange_rates"]
    assert_fits_raw_table(frame, "exchange_rates")
    return frame


def test_a_rate_is_known_since_four_in_the_afternoon_in_frankfurt():
    frame = read(line(), line("2026-12-31", "1.2"))
    columns = ["rate_date", "currency_code", "units_per_euro", "data_source", "known_at"]
    series = "ECB EXR.D.USD.EUR.SP00.A"
    assert accepted(frame).select(columns).rows() == [
        (date(2026, 5, 4), "USD", 1.1367, series, datetime(2026, 5, 4, 14, tzinfo=UTC)),
        (date(2026, 12, 31), "USD", 1.2, series, datetime(2026, 12, 31, 15, tzinfo=UTC)),
    ]


def test_days_without_a_rate_and_means_of_months_are_left_out():
    frame = read(
        line(value=""), line(value="NaN"), line("2026-05", frequency="M"), line("2026-05-05")
    )
    assert left_out(frame) == [
        "no rate of the day",
        "no rate of the day",
        "FREQ M: no reference rate of a day",
    ]
    assert accepted(frame)["rate_date"].to_list() == [date(2026, 5, 5)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (line("04.05.2026"), "TIME_PERIOD '04.05.2026': expected a day"),
        (line(value="0"), "OBS_VALUE '0': expected a rate above 0"),
        (line(value="-1"), "OBS_VALUE '-1': expected a rate above 0"),
        (line(value="1,1"), "fields"),
        (line(value="x"), "OBS_VALUE 'x': expected a number"),
        (line(base="USD"), "CURRENCY_DENOM 'USD': expected EUR"),
        (line().replace(",USD,EUR", ",,EUR"), "CURRENCY is empty: expected a currency"),
    ],
)
def test_a_line_that_says_no_rate_is_refused_with_the_reason(wrong, reason):
    frame = read(wrong, line("2026-05-05"))
    [told] = reasons(frame)
    assert reason in told
    assert accepted(frame)["units_per_euro"].to_list() == [1.1367]


def test_another_csv_is_no_file_of_rates():
    with pytest.raises(UnreadableFile, match="expected rates of the ECB's dataflow EXR in CSV"):
        read("2026-05-04,1.1", header="Date,USD")


@given(st.floats(min_value=1e-6, max_value=1e6), st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_every_rate_of_a_day_is_read_as_it_is_told(value, day):
    [row] = accepted(read(line(day.isoformat(), repr(value)))).iter_rows(named=True)
    assert (row["rate_date"], row["units_per_euro"]) == (day, value)
    assert row["known_at"].date() == day
