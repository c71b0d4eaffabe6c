"""The files of an invented world in which each combination of sources is some site's.

What belongs here: reference data and landing files of one day, Monday 4 May 2026. What does not:
any expected figure.

A site's name ends in the first letters of its sources. Each has a grid meter and a battery without
meters, buys at a market price, and is committed to 0.12 MW: more than its connection of 0.1 MW or
its battery alone can carry. Sites without prices, carbon or telemetry lie in zones and have GPUs of
which nobody else has any either. A cloud is known by its bill or by nothing.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from pathlib import Path

import yaml

from tests.small_world import BATTERY_HEADER, CARBON_HEADER, day_ahead, put

DAY = date(2026, 5, 4)
WEEK = "2026-W19"
SOURCES = ("meter", "telemetry", "jobs", "prices", "carbon", "battery")
SITES: dict[str, frozenset[str]] = {
    f"site-{''.join(source[0] for source in chosen) or 'none'}": frozenset(chosen)
    for count in range(len(SOURCES) + 1)
    for chosen in combinations(SOURCES, count)
}
CLOUDS: dict[str, frozenset[str]] = {"cloud-billed": frozenset(["bill"]), "cloud": frozenset()}
STARTED_AT = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
SAMPLES = [STARTED_AT + timedelta(minutes=5 * step) for step in range(288)]
FOCUS = {
    "BilledCost": 240,
    "BillingAccountId": "ACC-1",
    "BillingCurrency": "EUR",
    "BillingPeriodEnd": "2026-06-01T00:00:00Z",
    "BillingPeriodStart": "2026-05-01T00:00:00Z",
    "ChargeCategory": "Usage",
    "ChargePeriodEnd": "2026-05-05T00:00:00Z",
    "ChargePeriodStart": "2026-05-04T00:00:00Z",
    "ConsumedQuantity": 24,
    "ConsumedUnit": "Hours",
    "ContractedCost": 240,
    "EffectiveCost": 240,
    "ListCost": 240,
    "ListUnitPrice": 10,
    "PricingCategory": "Standard",
    "PricingQuantity": 24,
    "PricingUnit": "Hours",
    "ProviderName": "Nimbus",
    "RegionId": "cloud-billed",
    "ResourceId": "vm-1",
    "ServiceCategory": "Compute",
    "ServiceName": "Virtual machines",
    "SkuId": "GPU8",
    "SkuPriceId": "P1",
}


def declare(data_dir: Path, sites: Iterable[str] = tuple(SITES), *, clouds: bool = True) -> None:
    """Write the reference data of sites, and of both clouds."""
    zones = [
        {"zone": "DE-LU", "kind": "bidding", "name": "Germany"},
        {"zone": "NIL-PRICE", "kind": "bidding", "name": "No prices"},
        {"zone": "DE", "kind": "carbon", "name": "Germany"},
        {"zone": "NIL-CARBON", "kind": "carbon", "name": "No carbon"},
    ]
    _write(
        data_dir,
        "organization.yml",
        organization_id="org",
        name="All combinations",
        time_zone="UTC",
        reporting_currency="EUR",
        zones=zones,
    )
    _write(
        data_dir,
        "gpu_models.yml",
        gpu_models=[
            {
                "gpu_model": name,
                "idle_w": 100,
                "peak_w": 700,
                "embodied_kg": 150,
                "lifetime_hours": 43800,
            }
            for name in ("watched", "unwatched")
        ],
    )
    _write(
        data_dir,
        "meters.yml",
        meters=[
            {"meter_id": f"{site}-grid", "site_id": site, "role": "grid_import"} for site in sites
        ],
    )
    _write(
        data_dir,
        "capacity_plan.yml",
        until="2026-12",
        commitments=[
            {
                "site_id": site,
                "from_month": "2026-01",
                "committed_it_mw": 0.12,
                "utilization_ratio": 0.5,
            }
            for site in sites
        ],
    )
    always = {"valid_from": date(2026, 1, 1)}
    for site in sites:
        has = SITES[site]
        _write(
            data_dir,
            f"sites/{site}.yml",
            site_id=site,
            name=site,
            venue_kind="own_site",
            country_code="DE",
            time_zone="UTC",
            currency_code="EUR",
            bidding_zone="DE-LU" if "prices" in has else "NIL-PRICE",
            price_market="day_ahead",
            carbon_zone="DE" if "carbon" in has else "NIL-CARBON",
            clusters=[site],
            node_groups=[
                {
                    "hostnames": [f"{site}-n1"],
                    "gpus_per_node": 2,
                    "gpu_model": "watched" if "telemetry" in has else "unwatched",
                    "host_idle_w": 200,
                    "host_peak_w": 400,
                }
            ],
            terms=[{**always, "grid_firm_mw": 0.1, "it_capacity_mw": 0.2, "design_pue": 1}],
            batteries=[
                {
                    **always,
                    "battery_id": f"{site}-battery",
                    "chemistry": "lithium-ion",
                    "power_mw": 0.1,
                    "energy_mwh": 0.1,
                    "reserve_ratio": 0.1,
                    "charge_efficiency": 1,
                    "discharge_efficiency": 1,
                    "degradation_cost_per_mwh": 10,
                    "power_sign": "discharge_positive",
                }
            ],
        )
        party = {"site_id": site, "time_zone": "UTC", "currency_code": "EUR", "counterparty": "X"}
        _write(
            data_dir,
            f"contracts/{site}-supply.yml",
            contract_id=f"{site}-supply",
            kind="supply_tariff",
            name="Supply at spot",
            **party,
            terms=[
                {
                    **always,
                    "price_basis": "spot_plus",
                    "credits_contracted_energy": False,
                    "periods": [{"months": [1, 12], "hours": [0, 24], "energy_price_per_mwh": 0.0}],
                }
            ],
        )
        _write(
            data_dir,
            f"contracts/{site}-grid.yml",
            contract_id=f"{site}-grid",
            kind="grid_connection",
            name="Grid connection",
            **party,
            terms=[
                {
                    **always,
                    "contracted_kw": 100,
                    "capacity_charge_per_kw_month": 0,
                    "network_per_mwh": 0,
                    "levies_per_mwh": 0,
                    "demand_charge_per_kw": 0,
                }
            ],
        )
    for cloud in CLOUDS if clouds else ():
        _write(
            data_dir,
            f"sites/{cloud}.yml",
            site_id=cloud,
            name=cloud,
            venue_kind="public_cloud",
            country_code="US",
            time_zone="UTC",
            currency_code="EUR",
            cloud={
                "provider_name": "Nimbus",
                "region_id": cloud,
                "gpus_per_instance": {"GPU8": 8},
            },
        )


def land(data_dir: Path, sources: Collection[str] = (*SOURCES, "bill")) -> None:
    """Write the files of the sources named, with what the sites that are declared have of them."""
    declared = [path.stem for path in sorted((data_dir / "reference/sites").iterdir())]

    def having(source: str) -> list[str]:
        if source not in sources:
            return []
        return [site for site in declared if source in (SITES | CLOUDS)[site]]

    if metered := having("meter"):
        put(
            data_dir,
            "readings_csv/meters.csv",
            "meter_id,interval_start_utc,interval_seconds,quantity,unit,direction\n"
            + "".join(
                f"{site}-grid,{at:%Y-%m-%dT%H:%M:%SZ},900,10,kWh,import\n"
                for site in metered
                for at in SAMPLES[::3]
            ),
        )
    if watched := having("telemetry"):
        # The first GPU works and the second does nothing.
        put(
            data_dir,
            "prometheus/gpus.csv",
            "timestamp,Hostname,gpu,DCGM_FI_DEV_POWER_USAGE,DCGM_FI_DEV_GPU_UTIL\n"
            + "".join(
                f"{at:%Y-%m-%dT%H:%M:%SZ},{site}-n1,{gpu},{power},{use}\n"
                for site in watched
                for at in SAMPLES
                for gpu, power, use in ((0, 600, 100), (1, 100, 0))
            ),
        )
    if accounted := having("jobs"):
        put(
            data_dir,
            "sacct/jobs.txt",
            "JobID|JobIDRaw|Cluster|Partition|QOS|Account|User|JobName|State|Submit|Start|End"
            "|ElapsedRaw|NNodes|AllocTRES|NodeList|ConsumedEnergyRaw|Comment\n"
            + "".join(
                f"1|1|{site}|gpu||a|u|j|COMPLETED|2026-05-04T00:00:00|2026-05-04T00:00:00"
                f"|2026-05-05T00:00:00|86400|1|gres/gpu=1,node=1|{site}-n1||\n"
                for site in accounted
            ),
        )
    if having("prices"):
        # A day of the market begins and ends at midnight in Brussels, two hours before UTC's.
        for day in (DAY, DAY + timedelta(days=1)):
            put(data_dir, f"entsoe/DE_{day:%Y%m%d}.xml", day_ahead(day, 100))
    if having("carbon"):
        hours = [f"{DAY} {hour:02}:00:00,,DE,DE,300,400,40,40,x,false," for hour in range(24)]
        put(data_dir, "electricity_maps/DE.csv", "\n".join([CARBON_HEADER, *hours]) + "\n")
    if stored := having("battery"):
        put(
            data_dir,
            "battery_csv/batteries.csv",
            "\n".join(
                [
                    BATTERY_HEADER,
                    *(
                        f"{at:%Y-%m-%dT%H:%M:%SZ},{site}-battery,50,0,100,100,100,standby"
                        for site in stored
                        for at in SAMPLES
                    ),
                ]
            )
            + "\n",
        )
    if having("bill"):
        put(
            data_dir,
            "focus/bill.csv",
            ",".join(FOCUS) + "\n" + ",".join(str(value) for value in FOCUS.values()) + "\n",
        )


def _write(data_dir: Path, file_name: str, /, **document: object) -> None:
    path = data_dir / "reference" / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
