"""Of every format: each line of a file is loaded, quarantined or left out, and none is made up.

A file that breaks off is refused, or gives no row that the whole file does not give.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connectors import FORMATS, TABLES_OF
from pipelines.connectors.common import Context, UnreadableFile
from pipelines.connectors.mappings import Mappings, Quantity, ReadingsMapping, Source, Time
from pipelines.connectors.reading import Reader
from pipelines.lake.landing import LandedFile, rows_of
from pipelines.lake.quarantine import Declared, split
from pipelines.lake.schemas import RAW_TABLES, columns_to_fill

START = datetime(2026, 5, 4, tzinfo=UTC)
DECLARED = Declared(
    digest="0" * 16,
    context=Context(
        {"alder": "Europe/Berlin"},
        Mappings(
            [
                ReadingsMapping(
                    folder="supplier",
                    meter_id=Source("meter"),
                    flow=Source(constant="import"),
                    started_at=Time(["from"], time_zone="Europe/Berlin"),
                    interval_minutes=60,
                    quantity=Quantity("mean", "kW"),
                    quality=Source("code", codes={"W": "measured"}),
                )
            ]
        ),
    ),
    names={"grid_events": (("target",), pl.DataFrame({"target": ["poc"]}), "sites")},
    first_day=datetime(2026, 1, 1, tzinfo=UTC),
    kept_days=None,
)
LOADED_AT = datetime(2026, 7, 1, tzinfo=UTC)

Kinds = Sequence[str]


def iso(hours: int) -> str:
    return f"{START + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"


def csv(line: Callable[[int], dict[str, str]], **wrong: str) -> Callable[[Kinds], tuple[str, int]]:
    """Writes a CSV of good lines, of lines with `wrong` fields, and of others than the header's."""

    def write(kinds: Kinds) -> tuple[str, int]:
        rows = [",".join(line(0))]
        for number, kind in enumerate(kinds):
            told = line(number) | (wrong if kind == "bad" else {})
            fields = [""] * len(told) if kind == "empty" else list(told.values())
            rows.append(",".join([*fields, "x"] if kind == "long" else fields[kind == "short" :]))
        return "\r\n".join([*rows, ""]), len(kinds)

    return write


CSV = {
    "battery_csv/a.csv": csv(
        lambda n: {
            "timestamp": iso(n),
            "battery_id": "bess",
            "state_of_charge_pct": "50",
            "state": "standby",
            "power_kw": f"12.{n}5",
        },
        power_kw="x",
    ),
    "outages_csv/a.csv": csv(
        lambda n: {
            "event_id": f"e{n}",
            "target": "poc",
            "event_type": "curtailment_order",
            "started_at": iso(n),
            "ended_at": iso(n + 10),
            "import_limit_kw": f"{n}250",
        },
        event_type="x",
    ),
    "prices_csv/ercot.csv": csv(
        lambda n: {
            "DeliveryDate": "05/04/2026",
            "DeliveryHour": "7",
            "DeliveryInterval": f"{n % 4 + 1}",
            "SettlementPointName": f"LZ_{n}",
            "SettlementPointType": "LZ",
            "DSTFlag": "N",
            "SettlementPointPrice": f"1{n}.25",
        },
        SettlementPointPrice="x",
    ),
    "prices_csv/oasis.csv": csv(
        lambda n: {
            "INTERVALSTARTTIME_GMT": iso(n),
            "INTERVALENDTIME_GMT": iso(n + 1),
            "NODE_ID": "TH_NP15_GEN-APND",
            "MARKET_RUN_ID": "DAM",
            "LMP_TYPE": "MCC" if n % 3 == 2 else "LMP",
            "MW": f"3{n}.25",
            "GROUP": f"{n}7",
        },
        LMP_TYPE="x",
    ),
    "ecb/USD.csv": csv(
        lambda n: {
            "KEY": "EXR.D.USD.EUR.SP00.A",
            "FREQ": "M" if n % 3 == 2 else "D",
            "CURRENCY": "USD",
            "CURRENCY_DENOM": "EUR",
            "EXR_TYPE": "SP00",
            "EXR_SUFFIX": "A",
            "TIME_PERIOD": f"{START + timedelta(days=n):%Y-%m-%d}",
            "OBS_VALUE": f"1.{n}25",
            "TITLE": f"US dollar {n}",
        },
        CURRENCY_DENOM="x",
    ),
    "prices_csv/DE-LU_prices.csv": csv(
        lambda n: {"Datetime (UTC)": iso(n)[:-1], "Price (EUR/MWh)": f"{n}5.25"},
        **{"Price (EUR/MWh)": "x"},
    ),
    "electricity_maps/em_hourly.csv": csv(
        lambda n: {
            "Datetime (UTC)": iso(n),
            "Zone id": "DE",
            "Data estimated": "false",
            "Carbon intensity gCO₂eq/kWh (direct)": "300",
            "Carbon intensity gCO₂eq/kWh (Life cycle)": f"4{n}0.5",
        },
        **{"Data estimated": "x"},
    ),
    "certificates/a.csv": csv(
        lambda n: {
            "issuance_id": f"i{n}",
            "bundle_quantity": "10",
            "certificate_bundle_id_range_start": "0",
            "certificate_bundle_id_range_end": "9",
            "energy_carrier": "electricity",
            "energy_source": "wind",
            "face_value": "1",
            "production_starting_interval": iso(n),
            "production_ending_interval": iso(n + 1),
            "expiry_datestamp": "",
            "is_storage": "false",
            "issuing_body": "UBA",
            "issue_market_zone": "DE-LU",
        },
        is_storage="x",
    ),
    "invoices/a.csv": csv(
        lambda n: {
            "invoice_id": "R1",
            "line_number": f"{n + 1}",
            "contract_id": "c",
            "billing_month": "2026-05",
            "line": "energy",
            "currency_code": "EUR",
            "issued_at": iso(900),
            "amount": f"{n}7.25",
        },
        amount="x",
    ),
    "focus/a.csv": csv(
        lambda n: {
            "ProviderName": "Nimbus",
            "BillingAccountId": "A",
            "BillingCurrency": "EUR",
            "BillingPeriodStart": "2026-05-01T00:00:00Z",
            "BillingPeriodEnd": "2026-06-01T00:00:00Z",
            "ChargePeriodStart": iso(n),
            "ChargePeriodEnd": iso(n + 1),
            "ChargeCategory": "Usage",
            "EffectiveCost": f"{n}7.25",
            "BilledCost": f"{n}7.25",
        },
        BilledCost="x",
    ),
    "readings_csv/a.csv": csv(
        lambda n: {
            "meter_id": "M1",
            "interval_start_utc": iso(n),
            "interval_seconds": "3600",
            "direction": "import",
            "unit": "kWh",
            "quality": "measured",
            "quantity": f"1{n}.25",
        },
        quantity="x",
    ),
    "readings_csv/supplier/a.csv": csv(
        lambda n: {"meter": "M1", "from": iso(n)[:-1], "code": "W", "mean": f"1{n}.25"},
        mean="x",
    ),
    "prometheus/wide.csv": csv(
        lambda n: {
            "timestamp": iso(n),
            "Hostname": "ald01",
            "gpu": "0",
            "DCGM_FI_DEV_POWER_USAGE": f"41{n}.5",
        },
        DCGM_FI_DEV_POWER_USAGE="x",
    ),
    "prometheus/long.csv": csv(
        lambda n: {
            "timestamp": iso(n),
            "__name__": "DCGM_FI_DEV_POWER_USAGE",
            "Hostname": "ald01",
            "gpu": "0",
            "value": f"41{n}.5",
        },
        value="x",
    ),
}


def sacct(kinds: Kinds) -> tuple[str, int]:
    rows = ["JobID|State|Start|End|NNodes|AllocTRES|ElapsedRaw"]
    for number, kind in enumerate(kinds):
        job_id = f"{number}.batch" if kind == "empty" else f"{number}"
        elapsed = "x" if kind == "bad" else "3600"
        line = f"{job_id}|COMPLETED|2026-05-04T00:00:00|2026-05-04T01:00:00|1|gres/gpu=4|{elapsed}"
        rows.append({"short": line[2:].lstrip("|"), "long": f"{line}|x"}.get(kind, line))
    return "\n".join([*rows, ""]), len(kinds)


def nem12(kinds: Kinds) -> tuple[str, int]:
    """A channel a line, with two days and a read of its register.

    kWh, kVArh, a unit that is none, a day with a value less.
    """
    records, count = ["100,NEM12,202605040000,M,R"], 0
    for number, kind in enumerate(kinds):
        suffix = "Q1" if kind == "empty" else "E1"
        unit = {"empty": "kVArh", "bad": "l"}.get(kind, "kWh")
        slots = 48 - (kind == "short") + (kind == "long")
        records.append(f"200,NMI{number},{suffix},{suffix},{suffix},,,{unit},30,")
        for day, width in (("20260504", 48), ("20260505", slots)):
            values = ",".join(f"{slot}.5" for slot in range(width))
            records.append(f"300,{day},{values},A,,,20260506000000,")
            count += 48 if width == 48 and kind != "bad" else 1
        read_at = {"short": "20260505", "long": "20260505000001"}.get(kind, "20260505093000")
        records.append(f"500,N,ORDER{number},{read_at},{1340 + number}.5")
        count += 1
    return "\n".join([*records, "900", ""]), count


def nem13(kinds: Kinds) -> tuple[str, int]:
    """A record a line, which is two reads: kWh, kVArh, an index or a direction that is none."""
    records = ["100,NEM13,202605040000,M,R"]
    for number, kind in enumerate(kinds):
        direction = "X" if kind == "long" else "E"
        unit = {"empty": "kVArh", "short": "l"}.get(kind, "kWh")
        index = "x" if kind == "bad" else f"1{number}.5"
        records.append(
            f"250,NMI{number},11,1,11,11,S1,{direction},{index},20260501093000,A,,,"
            f"{index},20260505093000,A,,,7,{unit},20260801,20260506000000,"
        )
    return "\n".join([*records, "900", ""]), 2 * len(kinds)


def mscons(kinds: Kinds) -> tuple[str, int]:
    """A location a line, with a quarter and a read of its register.

    kWh, reactive energy, a value that is none, no offset, no OBIS code.
    """
    segments = ["UNA:+,? ", "UNB+UNOC:3+S:500+R:500+260505:0800+REF", "UNH+1+MSCONS:D:04B:UN:2.4c"]
    segments += ["BGM+7+M1+9", "DTM+137:202605050800?+00:303", "NAD+DP"]
    for number, kind in enumerate(kinds):
        channel = "3" if kind == "empty" else "1"
        offset = "" if kind == "short" else "?+00"
        segments.append(f"LOC+172+1000000000{number}")
        for measure, times in (("29", (163, 164)), ("8", (9,))):
            code = "x" if kind == "long" else f"1-1?:{channel}.{measure}.0"
            segments += ["LIN+1", f"PIA+5+{code}:SRW"]
            segments.append(f"QTY+220:{'x' if kind == 'bad' else f'{number},25'}")
            segments += [
                f"DTM+{time}:2026050408{15 * place:02d}{offset}:303"
                for place, time in enumerate(times)
            ]
    return "'\n".join([*segments, "UNT+9+1", "UNZ+1+REF", ""]), 2 * len(kinds)


def green_button(kinds: Kinds) -> tuple[str, int]:
    """A series of two readings a line: energy, power, of no direction, of no type, a bad value."""
    entries = ['<entry><link rel="self" href="U/M1"/><link rel="related" href="U/M1/M"/><content>'
               "<UsagePoint/></content></entry>"]  # fmt: skip
    for number, kind in enumerate(kinds):
        uom, flow = (38 if kind == "empty" else 72), (4 if kind == "long" else 1)
        start = 1777852800 + 7200 * number
        readings = "".join(
            "<IntervalReading><timePeriod><duration>3600</duration>"
            f"<start>{start + 3600 * hour}</start></timePeriod><value>{value}</value>"
            "</IntervalReading>"
            for hour, value in enumerate(["5", "x" if kind == "bad" else "7"])
        )
        entries += [
            f'<entry><link rel="self" href="R/{number}"/><content><ReadingType><uom>{uom}</uom>'
            f"<flowDirection>{flow}</flowDirection></ReadingType></content></entry>"
            if kind != "short"
            else "",
            f'<entry><link rel="self" href="U/M1/M/{number}"/><link rel="up" href="U/M1/M"/>'
            f'<link rel="related" href="U/M1/M/{number}/I"/>'
            f'<link rel="related" href="R/{number}"/><content><MeterReading/></content></entry>',
            f'<entry><link rel="self" href="U/M1/M/{number}/I/1"/>'
            f'<link rel="up" href="U/M1/M/{number}/I"/><content><IntervalBlock>{readings}'
            "</IntervalBlock></content></entry>",
        ]
    return f"<feed>{''.join(entries)}</feed>", 2 * len(kinds)


def entsoe(kinds: Kinds) -> tuple[str, int]:
    """A Period of four quarters a line: all told, repeated ones left out, or of no layout."""
    series = []
    for number, kind in enumerate(kinds):
        curve = "A03" if kind == "empty" else "A01"
        told = range(1, 2 if kind == "empty" else 5)
        points = "".join(
            f"<Point><position>{place}</position><price.amount>{value}</price.amount></Point>"
            for place, value in ((n, "x" if kind == "bad" and n == 3 else f"9{n}.5") for n in told)
        )
        resolution = {"short": "PT7M", "long": "P1X"}.get(kind, "PT15M")
        series.append(
            "<TimeSeries><in_Domain.mRID>10Y1001A1001A82H</in_Domain.mRID>"
            f"<currency_Unit.name>EUR</currency_Unit.name><curveType>{curve}</curveType><Period>"
            f"<timeInterval><start>{iso(number)}</start><end>{iso(number + 1)}</end>"
            f"</timeInterval><resolution>{resolution}</resolution>{points}</Period></TimeSeries>"
        )
    count = sum(1 if kind in ("short", "long") else 4 for kind in kinds)
    return (
        "<Publication_MarketDocument><type>A44</type>"
        f"{''.join(series)}</Publication_MarketDocument>",
        count,
    )


def openadr(kinds: Kinds) -> tuple[str, int]:
    """An interval a line, of one event for a site and another customer; one without is a line."""
    payload = {
        "good": {"type": "IMPORT_CAPACITY_LIMIT", "values": [50]},
        "bad": {"type": "IMPORT_CAPACITY_LIMIT", "values": ["x"]},
        "empty": {"type": "PRICE", "values": [0.2]},
        "short": {"type": "SIMPLE", "values": [1]},
        "long": {"type": "ALERT_FLEX_ALERT", "values": ["now"]},
    }
    event = {
        "id": "ev",
        "programID": "p",
        "targets": ["poc", "81"],
        "payloadDescriptors": [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}],
        "intervalPeriod": {"start": iso(0), "duration": "PT1H"},
        "intervals": [{"id": n, "payloads": [payload[kind]]} for n, kind in enumerate(kinds)],
    }
    return json.dumps([event]), 2 * len(kinds) or 1


def answer(kinds: Kinds) -> tuple[str, int]:
    """A board a line, of one moment, with two of its metrics and one that is of no use."""
    series = []
    for number, kind in enumerate(kinds):
        gpu = {} if kind == "short" else {"gpu": f"{number}"}
        for name, value in (("POWER_USAGE", "x" if kind == "bad" else "412.5"), ("FB_USED", "1")):
            labels = {"__name__": f"DCGM_FI_DEV_{name}", "Hostname": f"ald{number}", **gpu}
            series.append({"metric": labels, "values": [[1777852800, value]]})
    return json.dumps({"data": {"resultType": "matrix", "result": series}}), len(kinds)


def scrape(kinds: Kinds) -> tuple[str, int]:
    lines = [
        f'DCGM_FI_DEV_{name}{{Hostname="ald{number}",'
        f'gpu="{"" if kind == "short" else number}"}} {"NaN" if kind == "bad" else 412.5}'
        for number, kind in enumerate(kinds)
        for name in ("POWER_USAGE", "FB_USED")
    ]
    return "\n".join([*lines, ""]), len(kinds)


def kepler(kinds: Kinds) -> tuple[str, int]:
    """A board a line, and as many metrics of its node that the book does not read."""
    lines = [
        f'kepler_node_{name}{{node_name="ald{number}",{of}}} {"NaN" if kind == "bad" else 412.5}'
        for number, kind in enumerate(kinds)
        for name, of in (("gpu_watts", f'gpu="{number}"'), ("cpu_watts", 'zone="package"'))
    ]
    return "\n".join([*lines, ""]), 2 * len(kinds)


def redfish(kinds: Kinds) -> tuple[str, int]:
    """A resource is one line, however many controls it has."""
    controls = [{"PowerConsumedWatts": None if kind == "bad" else 344.5} for kind in kinds]
    return json.dumps({"@odata.type": "#Power.v1_7_1.Power", "PowerControl": controls}), 1


def carbon(kinds: Kinds) -> tuple[str, int]:
    history = [
        {
            "zone": "DE",
            "datetime": "soon" if kind == "bad" else iso(number),
            "carbonIntensity": 300,
            "isEstimated": False,
        }
        for number, kind in enumerate(kinds)
    ]
    return json.dumps({"zone": "DE", "history": history}), len(kinds)


def watttime(kinds: Kinds) -> tuple[str, int]:
    points = [
        {"point_time": iso(number), "value": "x" if kind == "bad" else 800.5}
        for number, kind in enumerate(kinds)
    ]
    meta = {"region": "CAISO_NORTH", "signal_type": "co2_aoer", "units": "lbs_co2_per_mwh"}
    return json.dumps({"data": points, "meta": meta}), len(kinds)


def sunspec(kinds: Kinds) -> tuple[str, int]:
    """A dump a line: of a battery, with a computed value, of an inverter, without time, unnamed."""
    dumps = [
        {
            "name": None if kind == "long" else "bess",
            "timestamp": None if kind == "short" else iso(number),
            "models": [
                {
                    "ID": 1 if kind == "empty" else 802,
                    "SoC": 57.5 if kind == "bad" else 575,
                    "SoC_SF": -1,
                    "ChaSt": 3,
                }
            ],
        }
        for number, kind in enumerate(kinds)
    ]
    return json.dumps(dumps), len(kinds)


def slurmrestd(kinds: Kinds) -> tuple[str, int]:
    jobs = [
        {
            "job_id": number,
            "job_state": ["COMPLETED"],
            "start_time": 10**15 if kind == "bad" else 1777852800,
            "end_time": 1777856400,
            "node_count": 1,
        }
        for number, kind in enumerate(kinds)
    ]
    return json.dumps({"jobs": jobs, "last_update": 1777856400}), len(kinds)


def slurmdb(kinds: Kinds) -> tuple[str, int]:
    """A job a line with a step, one that waits, and values that are of another kind."""
    jobs = []
    for number, kind in enumerate(kinds):
        start = {"bad": "soon", "empty": 0}.get(kind, 1777852800)
        job = {
            "job_id": number,
            "cluster": "alder",
            "allocation_nodes": "x" if kind == "long" else 1,
            "state": {"current": ["PENDING" if kind == "empty" else "COMPLETED"]},
            "time": {"elapsed": 3600, "start": start, "end": start and 1777856400},
            "tres": {"allocated": [{"type": "gres", "name": "gpu", "count": 4}]},
            "steps": [{"step": {"id": f"{number}.batch"}}],
        }
        jobs.append(job | ({"time": 7, "tres": 7} if kind == "short" else {}))
    return json.dumps({"jobs": jobs, "meta": {}}), len(kinds)


def quoted_jobs(kinds: Kinds) -> tuple[str, int]:
    text, count = sacct(kinds)
    return text.replace("|", ",").replace("gres/gpu=4", '"gres/gpu=4,mem=1G"'), count


def opencost(kinds: Kinds) -> tuple[str, int]:
    """An allocation a line: with GPUs, of what nobody held, and of values that are none."""
    day = {"start": iso(0), "end": iso(24)}
    allocations = {
        f"{'__idle__' if kind == 'empty' else 'pod'}/{number}": 7
        if kind == "short"
        else {
            "properties": {"cluster": "alder", "namespace": "research"},
            "window": {} if kind == "long" else day,
            "start": iso(1),
            "end": iso(3),
            "gpuHours": "x" if kind == "bad" else 8,
        }
        for number, kind in enumerate(kinds)
    }
    return json.dumps({"code": 200, "data": [allocations]}), len(kinds)


def llview(kinds: Kinds) -> tuple[str, int]:
    lines = ["jobid         ts      nodeid  gpu_usage     gpu_pu"]
    for number, kind in enumerate(kinds):
        power = "x" if kind == "bad" else f"41{number}.500"
        host = "" if kind == "short" else f"{'ald01' if kind == 'empty' else 'ald01_00'}"
        line = f"9000001  {1777852800 + 60 * number}  {host}  99.000  {power}"
        lines.append(f"{line}  1" if kind == "long" else line)
    return "\n".join([*lines, ""]), len(kinds)


FILES: dict[str, Callable[[Kinds], tuple[str, int]]] = {
    **CSV,
    "sacct/jobs.txt": sacct,
    "sacct/jobs.csv": quoted_jobs,
    "sacct/jobs.json": slurmrestd,
    "sacct/accounting.json": slurmdb,
    "opencost/a.json": opencost,
    "nem12/a.csv": nem12,
    "nem12/accumulated.csv": nem13,
    "mscons/a.edi": mscons,
    "green_button/a.xml": green_button,
    "entsoe/a.xml": entsoe,
    "openadr/a.json": openadr,
    "prometheus/a.json": answer,
    "llview/GPU_9000001_node.dat": llview,
    "dcgm_scrape/ald_20260504T000000Z.prom": scrape,
    "kepler/ald_20260504T000000Z.prom": kepler,
    "redfish/ald_20260504T000000Z.json": redfish,
    "electricity_maps/a_hourly.json": carbon,
    "watttime/a.json": watttime,
    "sunspec/a.json": sunspec,
}
KINDS = st.lists(st.sampled_from(["good", "good", "bad", "short", "long", "empty"]), max_size=6)


@pytest.fixture(scope="module")
def load(tmp_path_factory) -> Iterator[Callable[[str, bytes], tuple[set[tuple], int]]]:
    """The rows a file gives, and how many of its lines are loaded, quarantined or left out."""
    folder = tmp_path_factory.mktemp("landing")
    with Reader(DECLARED.context, columns_to_fill()) as reader:

        @cache
        def read(name: str, content: bytes) -> tuple[set[tuple], int]:
            path = folder / name.replace("/", "_")
            path.write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            known = (LOADED_AT, LOADED_AT, 1)
            landed = LandedFile(path, name, name.split("/")[0], sha256, len(content), *known)
            loaded = pl.DataFrame({"load_id": [landed.load_id], "first_loaded_at": [LOADED_AT]})
            rows, count = set(), 0
            parts = [(landed, part) for part in reader.read(path, name, sha256)]
            for table, frame in rows_of(parts, Counter()).items():
                assert table in TABLES_OF[landed.format]
                good, bad, left_out = split(frame, RAW_TABLES[table], DECLARED, loaded)
                count += len(good) + len(bad) + len(left_out)
                rows |= set(good.drop("load_id", "source_row").rows())
            return rows, count

        yield read


def test_every_format_is_told_here():
    assert {name.split("/")[0] for name in FILES} == set(FORMATS)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=15, deadline=None)
@given(kinds=KINDS)
def test_every_line_is_loaded_quarantined_or_left_out(load, name, kinds):
    text, lines = FILES[name](kinds)
    try:
        _, count = load(name, text.encode())
    except UnreadableFile:
        # Nothing of it can be read, which is said of the file as a whole.
        assert "good" not in kinds
    else:
        assert count == lines


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None)
@given(kinds=st.lists(st.sampled_from(["good", "empty"]), min_size=2, max_size=4), data=st.data())
def test_a_file_that_breaks_off_is_refused_or_gives_no_other_row(load, name, kinds, data):
    content = FILES[name](kinds)[0].encode()
    whole, _ = load(name, content)
    cut = data.draw(st.integers(1, len(content) - 1))
    try:
        part, _ = load(name, content[:cut])
    except UnreadableFile:
        return
    assert part <= whole
