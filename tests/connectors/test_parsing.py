from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.connectors import parsing
from pipelines.connectors.common import UnreadableFile
from pipelines.connectors.parsing import CUT_OFF, assemble, csv_rows, instant, number

NOON = datetime(2026, 4, 5, 12, tzinfo=UTC)


def one(text: str | None, field) -> tuple[object, str | None]:
    """Value and reject reason of a row whose `told` is this text."""
    rows = pl.DataFrame({"told": [text]}, schema={"told": pl.String})
    return assemble(rows, {"value": field}).row(0)


@pytest.mark.parametrize(
    "text",
    [
        "2026-04-05T12:00:00Z",
        "2026-04-05 12:00Z",
        "2026-04-05T14:00:00.000+02:00",
        "2026-04-05 14:00:00+0200",
        " 2026-04-05T10:00-02 ",
    ],
)
@pytest.mark.parametrize("is_utc", [False, True])
def test_a_time_with_a_zone_is_the_same_instant_in_every_format(text, is_utc):
    assert one(text, instant("told", is_utc=is_utc)) == (NOON, None)


@pytest.mark.parametrize(
    "text", ["2026-04-05T12:00:00", "2026-04-05 12:00", "2026-04-05T12:00:00.0"]
)
def test_a_time_without_a_zone_is_utc_only_where_the_format_says_so(text):
    assert one(text, instant("told", is_utc=True)) == (NOON, None)
    assert one(text, instant("told")) == (
        None,
        f"told '{text}' has no time zone: expected Z or an offset such as +02:00",
    )


@pytest.mark.parametrize("text", ["2026-04-05", "12:00", "soon", "2026-02-30T00:00:00Z", ""])
@pytest.mark.parametrize("is_utc", [False, True])
def test_what_is_no_time_is_rejected_in_every_format(text, is_utc):
    expected = (None, f"told '{text}': expected a time such as 2026-04-05T12:00:00Z")
    assert one(text, instant("told", is_utc=is_utc)) == expected


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), (" -2e3 ", -2000.0), ("0", 0.0), (None, None)]
)
def test_a_number_is_read_and_nothing_is_nothing(text, value):
    assert one(text, number("told")) == (value, None)


@pytest.mark.parametrize("text", ["NaN", "inf", "1,5", "1e400", "", "x" * 100])
def test_what_is_no_finite_number_is_rejected_with_what_was_found(text):
    assert one(text, number("told")) == (None, f"told '{text[:60]}': expected a number")


def test_a_bound_is_told_and_an_empty_required_field_is_named():
    assert one("101", number("told", at_least=0, at_most=100)) == (
        None,
        "told '101': expected a number, at least 0, at most 100",
    )
    assert one(None, number("told").required("told", "a power")) == (
        None,
        "told is empty: expected a power",
    )


HEADER = "a,b,c"


def csv(text: str) -> list[tuple]:
    """Values, reject reason and, where there is one, the reason to leave a row out."""
    return csv_rows(text.encode(), expected="a table").rows()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_the_senders_machine_has_it(end):
    lines = [HEADER, "1,2,3", "", '4,"5, or 6",', "  ", ""]

    assert csv(end.join(lines)) == [("1", "2", "3", None), ("4", "5, or 6", None, None)]


def test_a_row_of_another_length_is_rejected_and_a_row_without_any_value_left_out():
    assert csv(f"{HEADER}\n1,2\n1,2,3\n,,\n1,2,3,4\n") == [
        (None, None, None, "the row has 2 fields: expected 3 as in the header", None),
        ("1", "2", "3", None, None),
        (None, None, None, None, "a row without any value"),
        (None, None, None, "the row has 4 fields: expected 3 as in the header", None),
    ]


def test_a_last_row_without_a_line_end_may_be_cut_off():
    assert csv(f"{HEADER}\n1,2,3\n1,2,30") == [
        ("1", "2", "3", None),
        ("1", "2", "30", CUT_OFF),
    ]


FIELDS = st.sampled_from(
    ["", " ", "1", " 2 ", "é", "\t", '""', '"a,b"', '"a""b"', '"a\nb"', '"', '"a"b', 'a"b', ' "a"']
)


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(st.lists(FIELDS, min_size=1, max_size=4), max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
    is_cut=st.booleans(),
)
@example(lines=[["1", "2"], ["1", "2", "3", "4"]], end="\n", is_cut=False)
def test_what_is_read_fast_is_what_is_read_line_by_line(lines, end, is_cut):
    text = end.join([HEADER, *(",".join(fields) for fields in lines)]) + ("" if is_cut else end)

    def outcome() -> list[tuple] | str:
        try:
            return csv(text)
        except UnreadableFile as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "_without_faults", lambda *_: None)
        expected = outcome()
    assert outcome() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('1,"2,3\n4,5,6\n', "line 3 is no CSV"),
        ('1,"2,3\n4,5"\n7,8,9\n', "a quote is left open"),
        ('1,"2"x,3\n', "line 2 is no CSV"),
    ],
)
def test_a_quote_that_is_left_open_swallows_no_line(text, message):
    with pytest.raises(UnreadableFile, match=message):
        csv(f"{HEADER}\n{text}")
