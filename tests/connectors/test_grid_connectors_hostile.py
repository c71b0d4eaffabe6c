import gzip
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connectors import (
    battery_csv,
    electricity_maps,
    entsoe,
    green_button,
    mscons,
    nem12,
    openadr,
    outages_csv,
    prices_csv,
    sunspec,
    watttime,
)
from pipelines.connectors.common import UnreadableFile
from tests.connectors.grid_fixtures import CONTEXT, assert_fits_raw_table

GREEN_BUTTON = b"""<feed xmlns="http://www.w3.org/2005/Atom">
<entry><link rel="self" href="U/1"/><link rel="related" href="U/1/M"/>
<content><UsagePoint xmlns="http://naesb.org/espi"/></content></entry>
<entry><link rel="self" href="R/1"/><content><ReadingType xmlns="http://naesb.org/espi">
<flowDirection>1</flowDirection><intervalLength>900</intervalLength>
<powerOfTenMultiplier>0</powerOfTenMultiplier><uom>72</uom></ReadingType></content></entry>
<entry><link rel="self" href="U/1/M/1"/><link rel="up" href="U/1/M"/>
<link rel="related" href="U/1/M/1/I"/><link rel="related" href="R/1"/>
<content><MeterReading xmlns="http://naesb.org/espi"/></content></entry>
<entry><link rel="up" href="U/1/M/1/I"/><content><IntervalBlock xmlns="http://naesb.org/espi">
<interval><start>1767225600</start></interval><IntervalReading><timePeriod><duration>900</duration>
<start>1767225600</start></timePeriod><value>5</value></IntervalReading></IntervalBlock></content>
<updated>2026-01-02T00:00:00Z</updated></entry></feed>"""
NEM12 = (
    b"100,NEM12,202601010000,M,R\n200,NMI1,E1,E1,E1,,,kWh,30,\n300,20260101,"
    + b",".join([b"1.5"] * 48)
    + b",V,,,20260102000000,\n400,1,48,A,,\n900\n"
)
NEM13 = (
    b"100,NEM13,202601010000,M,R\n250,NMI1,11,1,11,11,S1,E,1.5,20260101093000,A,,,"
    b"9.5,20260201093000,A,,,8,kWh,20260401,20260202000000,\n900\n"
)
MSCONS = (
    b"UNA:+.? 'UNB+UNOC:3+S:500+R:500+260102:0800+REF'UNH+1+MSCONS:D:04B:UN:2.4c'BGM+7+M1+9'"
    b"DTM+137:202601020800?+00:303'UNS+D'NAD+DP'LOC+172+50375312838'LIN+1'PIA+5+1-1?:1.29.0:SRW'"
    b"QTY+220:1.5'DTM+163:202601010000?+00:303'DTM+164:202601010015?+00:303'UNT+9+1'UNZ+1+REF'"
)
PRICES = b"""<Publication_MarketDocument><type>A44</type>
<createdDateTime>2026-01-01T00:00:00Z</createdDateTime><TimeSeries>
<in_Domain.mRID>10YNL----------L</in_Domain.mRID><currency_Unit.name>EUR</currency_Unit.name>
<curveType>A03</curveType><Period><timeInterval><start>2026-01-01T00:00Z</start>
<end>2026-01-01T06:00Z</end></timeInterval><resolution>PT60M</resolution>
<Point><position>1</position><price.amount>5</price.amount></Point>
<Point><position>4</position><price.amount>-5</price.amount></Point></Period></TimeSeries>
</Publication_MarketDocument>"""
GENERATION = (
    PRICES.replace(b"Publication_", b"GL_")
    .replace(b"A44", b"A75")
    .replace(b"price.amount", b"quantity")
    .replace(b"in_Domain", b"inBiddingZone_Domain")
    .replace(b"<curve", b"<MktPSRType><psrType>B16</psrType></MktPSRType><curve")
)
EVENT = b"""{"id": "e", "programID": "p", "modificationDateTime": "2026-01-01T00:00:00Z",
"objectType": "EVENT", "targets": ["T"], "payloadDescriptors": [{"payloadType":
"IMPORT_CAPACITY_LIMIT", "units": "MW"}], "intervalPeriod": {"start": "2026-01-02T00:00:00Z",
"duration": "PT1H"}, "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT",
"values": [22]}]}]}"""
BATTERY = b"""timestamp,battery_id,state_of_charge_pct,power_kw,state
2026-01-01T00:00:00Z,b,50,-3,holding
"""
OUTAGES = (
    b"event_id,target,event_type,started_at,ended_at,import_limit_kw,status,published_at\n"
    b"e,T,grid_outage,2026-01-01T00:00:00Z,,,active,2026-01-01T00:00:00Z\n"
)
CARBON = (
    "Datetime (UTC),Zone id,Carbon intensity gCO₂eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Data estimated\n2026-01-01 00:00:00,DE,1,2,false\n"
).encode()
CARBON_API = b'{"zone":"DE","history":[{"carbonIntensity":3,"datetime":"2026-01-01T00:00:00Z"}]}'
ERCOT = (
    b"DeliveryDate,DeliveryHour,DeliveryInterval,SettlementPointName,SettlementPointPrice,DSTFlag\n"
    b"11/01/2026,2,4,HB_NORTH,-1.5,Y\n"
)
OASIS = (
    b"INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,NODE_ID,MARKET_RUN_ID,LMP_TYPE,MW,GROUP\n"
    b"2026-01-01T00:00:00-00:00,2026-01-01T01:00:00-00:00,TH_NP15_GEN-APND,DAM,LMP,-1.5,1\n"
)
WATTTIME = b"""{"data": [{"point_time": "2026-01-01T00:00:00+00:00", "value": 800.5}], "meta":
{"region": "CAISO_NORTH", "signal_type": "co2_aoer", "units": "lbs_co2_per_mwh",
"data_point_period_seconds": 300}}"""
SUNSPEC = b"""{"name": "b", "timestamp": "2026-01-01T00:00:00Z", "models": [{"ID": 802,
"WHRtg": 6300, "WHRtg_SF": 4, "SoC": 575, "SoC_SF": -1, "ChaSt": 3, "State": 3, "W": 1100,
"W_SF": 3}]}"""
LIST = b"Datetime (UTC),Price (USD/MWh)\n2026-01-01 00:00:00+00:00,1.5\n"
SOUND = [
    (green_button, GREEN_BUTTON),
    (nem12, NEM12),
    (nem12, NEM13),
    (mscons, MSCONS),
    (entsoe, PRICES),
    (entsoe, GENERATION),
    (openadr, EVENT),
    (battery_csv, BATTERY),
    (outages_csv, OUTAGES),
    (electricity_maps, CARBON),
    (electricity_maps, CARBON_API),
    (prices_csv, ERCOT),
    (prices_csv, LIST),
    (prices_csv, OASIS),
    (watttime, WATTTIME),
    (sunspec, SUNSPEC),
]
SOUND_IDS = [
    f"{module.__name__.rpartition('.')[2]}-{index}" for index, (module, _) in enumerate(SOUND)
]
CONNECTORS = list(dict.fromkeys(module for module, _ in SOUND))
XML = [green_button, entsoe]
ODD_VALUES = [
    b"",
    b"-1",
    b"0",
    b"9" * 400,
    b"1e400",
    b"nan",
    b"inf",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b",",
    b"\n",
    b"<x/>",
    b"&lt;",
    b"null",
    b"[]",
    b"{}",
    b"true",
    b"P9999Y",
    b"PT0S",
    b"0001-01-01T00:00:00Z",
    b"9999-12-31T23:59:59-14:00",
    b"2026-02-30T00:00:00Z",
    "\u0661".encode(),
    "\u00b2".encode(),
]


def frames(module, content):
    """Tables of a connector, or none where the file is unreadable; each must fit its raw table."""
    try:
        tables = module.read(content, file_name="DE-LU_x.csv", context=CONTEXT)
    except UnreadableFile:
        return {}
    for name, frame in tables.items():
        assert_fits_raw_table(frame, name)
    return tables


@pytest.mark.parametrize(("module", "content"), SOUND, ids=SOUND_IDS)
def test_the_sound_files_of_this_test_are_read_without_a_rejected_row(module, content):
    (frame,) = frames(module, content).values()

    assert frame.height > 0
    assert frame["reject_reason"].null_count() == frame.height


@pytest.mark.parametrize("module", CONNECTORS)
@settings(max_examples=80, deadline=None)
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_unreadable_or_a_frame_that_fits(module, content):
    frames(module, content)


@pytest.mark.parametrize(("module", "content"), SOUND, ids=SOUND_IDS)
@settings(max_examples=80)
@given(data=st.data())
def test_a_file_damaged_anywhere_is_unreadable_or_a_frame_that_fits(module, content, data):
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 30))
        filler = data.draw(st.sampled_from(ODD_VALUES) | st.binary(max_size=6))
        content = content[:at] + filler + content[at + length :]

    frames(module, content)


@pytest.mark.parametrize(("module", "content"), SOUND, ids=SOUND_IDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), value=st.sampled_from(ODD_VALUES))
def test_a_field_with_an_odd_value_is_rejected_in_words_or_unreadable(module, content, seed, value):
    # Values lie between these separators in every one of the formats.
    at = [index for index, byte in enumerate(content) if byte in b'>,":\n'] or [0]
    start = random.Random(seed).choice(at) + 1
    end = next((i for i in range(start, len(content)) if content[i] in b'<,"}\n'), len(content))

    frames(module, content[:start] + value + content[end:])


@pytest.mark.parametrize("module", XML)
@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><feed>&b;</feed>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><feed>&a;</feed>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd"><feed/>',
    ],
)
def test_xml_with_entities_or_a_document_type_is_refused(module, content):
    with pytest.raises(UnreadableFile, match="document type or entities"):
        module.read(content, file_name="x.xml", context=CONTEXT)


@pytest.mark.parametrize("module", CONNECTORS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"\x00" * 50,
        "Zählerstand".encode("utf-16"),
        gzip.compress(b"x" * 100, mtime=0),
        b'<?xml version="1.0" encoding="no-such"?><feed/>',
        b"<a>" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 200_000,
        b'"' + b"a" * 200_000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_of_another_kind_is_unreadable(module, content):
    with pytest.raises(UnreadableFile):
        module.read(content, file_name="x", context=CONTEXT)


def test_a_small_document_cannot_ask_for_endless_intervals():
    content = PRICES.replace(b"2026-01-01T06:00Z", b"9026-01-01T06:00Z").replace(b"PT60M", b"PT1M")

    frame = entsoe.read(content, file_name="x", context=CONTEXT)["market_prices"]

    assert frame["reject_reason"].to_list() == [
        "a Period of 3681644040 intervals: expected at most 35136"
    ]


def test_many_small_periods_cannot_ask_for_endless_intervals():
    start = PRICES.index(b"<Period>")
    end = PRICES.index(b"</Period>") + len(b"</Period>")
    period = PRICES[start:end].replace(b"2026-01-01T06:00Z", b"2026-12-31T06:00Z")
    period = period.replace(b"PT60M", b"PT15M")

    with pytest.raises(UnreadableFile, match="intervals: expected at most 2000000"):
        entsoe.read(PRICES[:start] + period * 60 + PRICES[end:], file_name="x", context=CONTEXT)


def test_a_rejected_row_has_no_value_in_place_of_one_that_cannot_be_read():
    content = BATTERY.replace(b"-3", b"9" * 400)

    frame = battery_csv.read(content, file_name="x", context=CONTEXT)["battery_samples"]

    assert frame.select("power_kw", pl.col("reject_reason").str.slice(0, 10)).rows() == [
        (None, "power_kw '")
    ]
