"""Rows that no book can know of: from another time, or beyond what any device can mean."""

from datetime import UTC, datetime, timedelta

import pytest

from pipelines import lake
from pipelines.book import Book

LOADED = datetime(2026, 11, 1, 8, tzinfo=UTC)
MEND = "correct the date or the clock it comes from, and send the file again"
TOMORROW = "expected at most 2026-11-02T08:00:00Z, a day after loading"
NEM12 = (
    "100,NEM12,202605200000,MDP1,RET1\n"
    "200,JLFAC00001,E1,E1,E1,,,kWh,30,\n"
    "300,{day}," + ",".join(["2"] * 48) + ",A,,,{updated},\n"
    "900\n"
)
BATTERY = (
    "timestamp,battery_id,state_of_charge_pct,power_kw,state\n"
    "{at},sparks-second-life,50,{power},charging\n"
)
OUTAGE = (
    "event_id,target,event_type,started_at,ended_at,import_limit_kw,status,published_at\n"
    "E1,sparks-pcc,curtailment_order,{start},{end},{limit},active,{published}\n"
)
JOB = (
    "JobID|Cluster|State|Submit|Start|End|ElapsedRaw|NNodes|NodeList\n"
    "7|sparks|COMPLETED|{start}|{start}|{end}|{elapsed}|1|spk0001\n"
)
INVOICE = (
    "invoice_id,line_number,contract_id,billing_month,line,amount,currency_code,issued_at\n"
    "L-9,1,franklin-lupinus-pap,{month},energy,{amount},USD,{issued}\n"
)


def load(book: Book, name: str, content: str) -> tuple[str, int, int, str | None]:
    """Status, rows loaded, rows quarantined and reason of one file."""
    (book.landing / name).parent.mkdir(parents=True, exist_ok=True)
    (book.landing / name).write_text(content)
    [record] = lake.load(book, now=LOADED).records
    return record.status, record.row_count, record.quarantined_row_count, record.reason


def nem12(day: str, updated: str = "20260520000000") -> tuple[str, str]:
    return "nem12/a.csv", NEM12.format(day=day, updated=updated)


def battery(at: str, power: str = "10") -> tuple[str, str]:
    return "battery_csv/a.csv", BATTERY.format(at=at, power=power)


def outage(
    start: str = "2026-09-01T00:00Z",
    end: str = "",
    limit: str = "5",
    published: str = "2026-09-01T00:00Z",
) -> tuple[str, str]:
    row = OUTAGE.format(start=start, end=end, limit=limit, published=published)
    return "outages_csv/a.csv", row


def job(start: str, end: str, elapsed: str = "3600") -> tuple[str, str]:
    return "sacct/a.txt", JOB.format(start=start, end=end, elapsed=elapsed)


def invoice(month: str, issued: str, amount: str = "1.5") -> tuple[str, str]:
    return "invoices/a.csv", INVOICE.format(month=month, issued=issued, amount=amount)


OUT_OF_REACH = {
    "a reading of 2030": (
        nem12("20300509"),
        "meter_id JLFAC00001, flow import: interval_started_at: found 2030-05-08T14:00:00Z,"
        f" {TOMORROW}: {MEND} (and 47 more reasons)",
    ),
    "a reading of 2000": (
        nem12("20000101"),
        "meter_id JLFAC00001, flow import: interval_started_at: found 1999-12-31T14:00:00Z,"
        f" expected 2025-12-30T23:00:00Z or later: {MEND} (and 47 more reasons)",
    ),
    "a reading published in 2106": (
        nem12("20260509", "21060207062815"),
        "meter_id JLFAC00001, flow import: known_at: found 2106-02-06T20:28:15Z,"
        f" {TOMORROW}: {MEND}",
    ),
    "a sample of the day after tomorrow": (
        battery("2026-11-02T08:00:01Z"),
        "battery_id sparks-second-life: sampled_at: found 2026-11-02T08:00:01Z,"
        f" {TOMORROW}: {MEND}",
    ),
    "a power beyond all batteries": (
        battery("2026-10-31T08:00:00Z", "1e308"),
        "power_kw: found 1e+308, expected at most 1e+07",
    ),
    "an outage that is published in 2106": (
        outage(published="2106-02-07T06:28:15Z"),
        f"event_id E1, target sparks-pcc: known_at: found 2106-02-07T06:28:15Z, {TOMORROW}: {MEND}",
    ),
    "an outage planned for 2062": (
        outage(start="2062-01-01T00:00Z"),
        "event_id E1, target sparks-pcc: started_at: found 2062-01-01T00:00:00Z,"
        f" expected at most 2029-11-03T08:00:00Z, 1098 days after loading: {MEND}",
    ),
    "a limit beyond all connections": (
        outage(limit="1e308"),
        "import_limit_kw: found 1e+308, expected at most 1e+09",
    ),
    "a job since 1970": (
        job("1970-01-01T10:00:00", "2026-10-01T10:00:00"),
        "cluster sparks, job_id 7: submitted_at: found 1970-01-01T18:00:00Z,"
        f" expected 2024-12-30T23:00:00Z or later: {MEND}",
    ),
    "a job of three hundred years": (
        job("2026-10-01T10:00:00", "2026-10-01T11:00:00", "9999999999"),
        "elapsed_s: found 9999999999, expected at most 3.16224e+08",
    ),
    "an invoice of next year": (
        invoice("2026-09", "2027-10-02T16:00Z"),
        "contract_id franklin-lupinus-pap, invoice_id L-9, invoice_line_number 1: known_at: found"
        f" 2027-10-02T16:00:00Z, {TOMORROW}: {MEND}",
    ),
    "an invoice for a month of 2062": (
        invoice("2062-09", "2026-10-02T16:00Z"),
        "contract_id franklin-lupinus-pap, invoice_id L-9, invoice_line_number 1: billing_month:"
        " found 2062-09-01T00:00:00Z, expected at most 2030-11-04T08:00:00Z, 1464 days after"
        f" loading: {MEND}",
    ),
    "an invoice beyond all money": (
        invoice("2026-09", "2026-10-02T16:00Z", "-1e300"),
        "amount: found -1e+300, expected at least -1e+15",
    ),
}


@pytest.mark.parametrize("kind", OUT_OF_REACH)
def test_what_no_book_can_know_of_is_quarantined_with_what_it_is_of(book, kind):
    (name, content), reason = OUT_OF_REACH[kind]
    status, row_count, quarantined_row_count, told = load(book, name, content)
    assert (status, row_count, told) == ("partial", 0, reason)
    assert quarantined_row_count in (1, 48)


WITHIN_REACH = {
    "a sample of tomorrow's small hours": battery("2026-11-02T08:00:00Z"),
    "a reading of the day before the book east of it": nem12("20260101"),
    "a job that waited over the new year": job("2025-12-20T10:00:00", "2026-01-02T10:00:00"),
    "an outage planned for next year": outage("2027-06-01T00:00Z", "2027-06-02T00:00Z"),
    "an outage until the end of time": outage(end="9999-12-31T00:00Z"),
    "an invoice for next month": invoice("2026-12", "2026-11-01T06:00Z"),
}


@pytest.mark.parametrize("kind", WITHIN_REACH)
def test_what_may_lie_ahead_or_behind_is_loaded(book, kind):
    status, _, quarantined_row_count, told = load(book, *WITHIN_REACH[kind])
    assert (status, quarantined_row_count, told) == ("loaded", 0, None)


def test_the_time_of_loading_is_that_of_the_first_load(book):
    load(book, *battery("2026-11-03T08:00:00Z"))
    for name in ("sites/sparks.yml", "meters.yml"):
        file = book.reference / name
        file.write_text(file.read_text().replace("sparks-iron-air", "sparks-iron"))
    summary = lake.load(book, now=LOADED + timedelta(days=300))
    assert (summary.skipped, summary.partial, summary.quarantined_rows) == (0, 1, 1)
