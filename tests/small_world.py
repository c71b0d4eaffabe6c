"""The files of a small invented world: sites alder, cedar and cloud-x, for a few days of May 2026.

What belongs here: writing landing files from plain values. What does not: any expected figure.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

Energy = Callable[[date, int], float]
FIRST, LAST = date(2026, 5, 4), date(2026, 5, 8)
DE_LU = "10Y1001A1001A82H"
CARBON_HEADER = (
    "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Carbon-free energy percentage (CFE%),"
    "Renewable energy percentage (RE%),Data source,Data estimated,Data estimation method"
)
BATTERY_HEADER = (
    "timestamp,battery_id,state_of_charge_pct,power_kw,available_charge_kw,"
    "available_discharge_kw,energy_capacity_kwh,state"
)


def put(data_dir: Path, name: str, text: str) -> None:
    """Write a file of landing."""
    path = data_dir / "landing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def days(first: date, last: date) -> Iterator[date]:
    """All days from the first to the last."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


def nem12(channels: Sequence[tuple[str, str, Energy]], of: Sequence[date]) -> str:
    """Channels (meter, suffix, kWh of a day and quarter) for the days given."""
    lines = ["100,NEM12,202605200000,MDP1,RET1"]
    for meter, suffix, energy in channels:
        lines.append(f"200,{meter},{suffix},{suffix},{suffix},,,kWh,15,")
        for day in of:
            values = ",".join(f"{energy(day, quarter):g}" for quarter in range(96))
            lines.append(f"300,{day:%Y%m%d},{values},A,,,20260520000000,")
    return "\n".join([*lines, "900"]) + "\n"


def day_ahead(day: date, price: float) -> str:
    """A day of one price in Germany, in quarters, as the ENTSO-E publishes it the day before."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=2)
    end = start + timedelta(days=1)
    points = "".join(
        f"<Point><position>{number}</position><price.amount>{price}</price.amount></Point>"
        for number in range(1, 97)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?><Publication_MarketDocument xmlns='
        '"urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3"><mRID>x</mRID>'
        "<revisionNumber>1</revisionNumber><type>A44</type>"
        f"<createdDateTime>{start - timedelta(hours=10):%Y-%m-%dT%H:%M:%SZ}</createdDateTime>"
        "<TimeSeries><mRID>1</mRID><auction.type>A01</auction.type><businessType>A62</businessType>"
        f'<in_Domain.mRID codingScheme="A01">{DE_LU}</in_Domain.mRID>'
        f'<out_Domain.mRID codingScheme="A01">{DE_LU}</out_Domain.mRID>'
        "<contract_MarketAgreement.type>A01</contract_MarketAgreement.type>"
        "<currency_Unit.name>EUR</currency_Unit.name>"
        "<price_Measure_Unit.name>MWH</price_Measure_Unit.name>"
        "<classificationSequence_AttributeInstanceComponent.position>1"
        "</classificationSequence_AttributeInstanceComponent.position>"
        f"<curveType>A01</curveType><Period><timeInterval><start>{start:%Y-%m-%dT%H:%MZ}</start>"
        f"<end>{end:%Y-%m-%dT%H:%MZ}</end></timeInterval><resolution>PT15M</resolution>{points}"
        "</Period></TimeSeries></Publication_MarketDocument>\n"
    )


def battery(start: datetime, power_kw: Sequence[float], battery_id: str) -> str:
    """Samples every 5 minutes of a battery at half its charge, with the power of each."""
    lines = [
        f"{start + timedelta(minutes=5 * step):%Y-%m-%dT%H:%M:%SZ}"
        f",{battery_id},50,{power},400,400,1000,standby"
        for step, power in enumerate(power_kw)
    ]
    return "\n".join([BATTERY_HEADER, *lines]) + "\n"


def write(data_dir: Path) -> None:
    """Meters, prices and carbon of all sites: alder draws 7.2 kWh a quarter and cedar 2.4."""
    of = list(days(FIRST, LAST))

    def always(kwh: float) -> Energy:
        return lambda day, quarter: kwh

    alder = [
        ("ALDIT00001", "E1", always(6)),
        ("ALDCOOL001", "E1", always(0.6)),
        ("ALDFAC0001", "E1", always(7.2)),
        ("ALDGRID001", "E1", always(7.2)),
        ("ALDPLANT01", "B1", always(1000)),
    ]
    cedar = [
        ("CEDIT00001", "E1", always(2)),
        ("CEDCOOL001", "E1", always(0.2)),
        ("CEDFAC0001", "E1", always(2.4)),
        ("CEDGRID001", "E1", always(2.4)),
        ("CEDBESS001", "E1", always(0)),
        ("CEDBESS001", "B1", always(0)),
    ]
    put(data_dir, "nem12/alder_base.csv", nem12(alder, of))
    put(data_dir, "nem12/cedar_base.csv", nem12(cedar, of))
    for day in of:
        put(data_dir, f"entsoe/DE_{day:%Y%m%d}.xml", day_ahead(day, 100))
    prices = [
        "DeliveryDate,DeliveryHour,DeliveryInterval,SettlementPointName,SettlementPointType,"
        "SettlementPointPrice,DSTFlag"
    ]
    carbon = [CARBON_HEADER]
    for day in days(FIRST - timedelta(days=1), LAST):
        prices.extend(
            f"{day:%m/%d/%Y},{hour},{quarter},LZ_CEDAR,LZ,50,N"
            for hour in range(1, 25)
            for quarter in range(1, 5)
        )
        carbon.extend(
            f"{day} {hour:02}:00:00,,{zone},{zone},300,400,40,40,x,false,"
            for zone in ("DE", "US-TEX-ERCO")
            for hour in range(24)
        )
    put(data_dir, "prices_csv/ercot_base.csv", "\n".join(prices) + "\n")
    put(data_dir, "electricity_maps/em_hourly.csv", "\n".join(carbon) + "\n")
