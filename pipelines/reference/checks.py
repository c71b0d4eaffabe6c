"""What no single reference file can show: names nothing declares, overlaps, doubles, gaps.

What belongs here: rules over several entries or files. What does not: rules that one entry can
break by itself, which are in its model.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import fsum
from typing import Any

import polars as pl

from pipelines.reference.contracts import CpiEscalation, PlantContract, mistakes_in_terms
from pipelines.reference.documents import Document, Mistakes, Place, repeated
from pipelines.reference.fields import Dated, local_midnight
from pipelines.reference.model import Reference
from pipelines.reference.sites import hostnames

_OPEN = datetime.max.replace(tzinfo=UTC)
"""After everything: the end of terms that have none."""


class CrossChecks:
    """What no single file can show: names that nothing declares, overlaps, doubles, gaps."""

    def __init__(
        self, reference: Reference, documents: dict[str, Document], mistakes: Mistakes
    ) -> None:
        self.reference = reference
        self.documents = documents
        self.mistakes = mistakes
        self.sites = {site.site_id: site for site in reference.sites}
        self.currencies = set(reference.fx_rates["currency_code"])
        self.zones = {
            kind: {zone.zone for zone in reference.organization.zones if zone.kind == kind}
            for kind in ("bidding", "carbon")
        }

    def run(self) -> None:
        """Every check, in the order in which one would read the files."""
        self._sites()
        self._names_declared_once()
        self._meters()
        self._contracts()
        self._tariffs()
        self._workloads()
        self._capacity_plan()
        self._forward_prices()
        self._emission_factors()
        self._targets()
        self._site_costs()
        self._fx_rates()

    def _sites(self) -> None:
        gpu_models = {model.gpu_model for model in self.reference.gpu_models}
        for site, document in zip(self.reference.sites, self._files("sites/"), strict=True):
            self._zone(document, "bidding_zone", site.bidding_zone, "bidding")
            self._zone(document, "carbon_zone", site.carbon_zone, "carbon")
            self._currency(document, ["currency_code"], site.currency_code)
            self._no_overlap(document, ["terms"], site.terms)
            for index, group in enumerate(site.node_groups):
                place: Place = ["node_groups", index, "gpu_model"]
                self._known(document, place, group.gpu_model, gpu_models, "gpu_models.yml")

    def _names_declared_once(self) -> None:
        sites = self.reference.sites
        for what, names in (
            ("site_id", [site.site_id for site in sites]),
            ("contract_id", [contract.contract_id for contract in self.reference.contracts]),
            ("cluster", [cluster for site in sites for cluster in site.clusters]),
            ("battery_id", [b.battery_id for site in sites for b in site.batteries]),
        ):
            for name in repeated(names):
                self.mistakes.causes.append(
                    f"{what} {name!r} is declared twice, expected once: rename one"
                )
        # A mistyped range repeats thousands of names; the first few show it.
        for name in repeated([name for site in sites for name in hostnames(site)])[:5]:
            self.mistakes.causes.append(
                f"host name {name!r} belongs to several node_groups: number them apart"
            )

    def _meters(self) -> None:
        document = self.documents["meters.yml"]
        contracts = {contract.contract_id for contract in self.reference.contracts}
        by_flow: dict[tuple[str, str], list[int]] = {}
        for index, meter in enumerate(self.reference.meters):
            place: Place = ["meters", index]
            by_flow.setdefault((meter.meter_id, meter.flow), []).append(index)
            self._site(document, [*place, "site_id"], meter.site_id)
            site = self.sites.get(meter.site_id)
            if site is not None:
                batteries = {battery.battery_id for battery in site.batteries}
                where = f"batteries of site {site.site_id}"
                self._known(document, [*place, "battery_id"], meter.battery_id, batteries, where)
            contract_place = [*place, "contract_id"]
            self._known(document, contract_place, meter.contract_id, contracts, "contracts/")
            needed = {
                "battery_id": meter.role.startswith("battery_"),
                "contract_id": meter.role == "ppa_generation",
                "energy_source": meter.role.endswith("generation"),
            }
            for name, is_needed in needed.items():
                if is_needed and getattr(meter, name) is None:
                    self.mistakes.add(
                        document,
                        [*place, name],
                        f"not found, expected it of a {meter.role} meter: add the field",
                    )
        for (meter_id, flow), indexes in by_flow.items():
            for _, later in self._overlaps(self.reference.meters, indexes):
                self.mistakes.add(
                    document,
                    ["meters", later],
                    f"found meter_id {meter_id!r}, flow {flow!r} declared twice for"
                    f" {self.reference.meters[later].valid_from}, expected once: end the earlier"
                    " with valid_to",
                )

    def _contracts(self) -> None:
        plants = {m.meter_id for m in self.reference.meters if m.role == "ppa_generation"}
        documents = self._files("contracts/")
        for contract, document in zip(self.reference.contracts, documents, strict=True):
            self._site(document, ["site_id"], contract.site_id)
            self._currency(document, ["currency_code"], contract.currency_code)
            self._no_overlap(document, ["terms"], contract.terms)
            self._no_gap(document, ["terms"], contract.terms)
            if isinstance(contract, PlantContract):
                self._zone(document, "settlement_zone", contract.settlement_zone, "bidding")
                for place, what in mistakes_in_terms(contract):
                    self.mistakes.add(document, place, what)
                self._escalations(document, contract)
                if contract.plant_meter_id is not None and contract.plant_meter_id not in plants:
                    self.mistakes.add(
                        document,
                        ["plant_meter_id"],
                        f"found {contract.plant_meter_id!r}, expected a meter with role"
                        " ppa_generation in meters.yml",
                    )
        self._plant_shares()

    def _escalations(self, document: Document, contract: PlantContract) -> None:
        """The index of a price has to be there, and the month the price is stated for."""
        indices = self.reference.price_indices
        for index, terms in enumerate(contract.terms):
            if not isinstance(terms.escalation, CpiEscalation):
                continue
            place: Place = ["terms", index, "escalation"]
            name, base_month = terms.escalation.index, terms.escalation.base_month
            months = indices.filter(pl.col("index") == name)["month"].dt.strftime("%Y-%m")
            known = set(indices["index"])
            self._known(document, [*place, "index"], name, known, "price_indices.csv")
            if name in known and base_month not in months:
                self.mistakes.add(
                    document,
                    [*place, "base_month"],
                    f"found {base_month!r}, expected a month of {name} in price_indices.csv: add it"
                    " there",
                )

    def _plant_shares(self) -> None:
        """No plant is sold more than once over; of each, the first time it is told."""
        documents = self._files("contracts/")
        by_plant: dict[str, list[tuple[datetime, datetime, PlantContract, Document]]] = {}
        for contract, document in zip(self.reference.contracts, documents, strict=True):
            if isinstance(contract, PlantContract) and contract.plant_meter_id is not None:
                # Contracts on one plant may count their days in different time zones.
                by_plant.setdefault(contract.plant_meter_id, []).extend(
                    (
                        local_midnight(terms.valid_from, contract.time_zone),
                        local_midnight(terms.valid_to, contract.time_zone)
                        if terms.valid_to
                        else _OPEN,
                        contract,
                        document,
                    )
                    for terms in contract.terms
                )
        for plant_meter_id, spans in by_plant.items():
            changes = sorted({instant for start, end, *_ in spans for instant in (start, end)})
            for start, end in pairwise(changes):
                # By name, for terms of one contract that overlap are another mistake.
                shares = {
                    contract.contract_id: (contract.share_of_plant or 0, document)
                    for first, last, contract, document in spans
                    if first <= start < last
                }
                total = fsum(share for share, _ in shares.values())
                # Shares such as 0.7, 0.2 and 0.1 are no exact binary fractions.
                if total > 1 + 1e-9:
                    until = "on" if end == _OPEN else f"to {end:%Y-%m-%dT%H:%MZ}"
                    document = list(shares.values())[-1][1]
                    self.mistakes.add(
                        document,
                        ["share_of_plant"],
                        f"contracts {', '.join(shares)} take {total:g} of plant meter"
                        f" {plant_meter_id} from {start:%Y-%m-%dT%H:%MZ} {until}, expected at most"
                        " 1: lower a share or end the terms of one",
                    )
                    break

    def _tariffs(self) -> None:
        document = self.documents["tariffs.yml"]
        by_site: dict[str, list[int]] = {}
        for index, tariff in enumerate(self.reference.tariffs):
            place: Place = ["tariffs", index]
            by_site.setdefault(tariff.site_id, []).append(index)
            self._site(document, [*place, "site_id"], tariff.site_id)
            self._currency(document, [*place, "currency_code"], tariff.currency_code)
            prices = Counter(
                (month, hour)
                for period in tariff.periods
                for month in range(period.months[0], period.months[1] + 1)
                for hour in range(*period.hours)
            )
            wrong = [(m, h) for m in range(1, 13) for h in range(24) if prices[m, h] != 1]
            if wrong:
                month, hour = wrong[0]
                self.mistakes.add(
                    document,
                    [*place, "periods"],
                    f"found {prices[month, hour]} prices for month {month}, hour {hour}, expected"
                    " one for each of the 12 x 24: correct months and hours",
                )
            site = self.sites.get(tariff.site_id)
            if tariff.price_basis == "spot" and site is not None and site.price_market is None:
                self.mistakes.add(
                    document,
                    [*place, "price_basis"],
                    f"found 'spot', expected price_market in the file of site {site.site_id}",
                )
        for site_id, indexes in by_site.items():
            for _, later in self._overlaps(self.reference.tariffs, indexes):
                self.mistakes.add(
                    document,
                    ["tariffs", later],
                    f"found two tariffs of site {site_id} for"
                    f" {self.reference.tariffs[later].valid_from}, expected one: end the earlier"
                    " with valid_to",
                )

    def _workloads(self) -> None:
        document = self.documents["workloads.yml"]
        names = [workload.workload_id for workload in self.reference.workloads]
        self._no_double(document, "workloads", names)
        for index, rule in enumerate(self.reference.rules):
            place: Place = ["rules", index, "workload_id"]
            self._known(document, place, rule.workload_id, set(names), "workloads")
        if "unassigned" not in names:
            self.mistakes.add(
                document,
                ["workloads"],
                "not found 'unassigned', expected it for jobs that no rule matches",
            )

    def _capacity_plan(self) -> None:
        document = self.documents["capacity_plan.yml"]
        commitments = self.reference.capacity_plan.commitments
        for index, commitment in enumerate(commitments):
            self._site(document, ["commitments", index, "site_id"], commitment.site_id)
        keys = [(commitment.site_id, commitment.from_month) for commitment in commitments]
        self._no_double(document, "commitments", keys)

    def _forward_prices(self) -> None:
        """Zones and currencies, each that nothing declares in the first line that names it."""
        prices = self.reference.forward_prices.with_row_index("line", offset=2)
        for column, names, where in (
            ("zone", self.zones["bidding"], "zones of organization.yml"),
            ("currency_code", self.currencies, "fx_rates.csv"),
        ):
            unknown = prices.filter(~pl.col(column).is_in(names)).unique(column, keep="first")
            for line, name in unknown.sort("line").select("line", column).iter_rows():
                self.mistakes.causes.append(
                    f"forward_prices.csv:{line}: {column}: found {name!r}, expected a name declared"
                    f" in {where}"
                )

    def _emission_factors(self) -> None:
        document = self.documents["emission_factors.yml"]
        factors = self.reference.emission_factors
        by_factor: dict[tuple[str, str], list[int]] = {}
        for index, factor in enumerate(factors):
            by_factor.setdefault((factor.factor_id, factor.basis), []).append(index)
            where = "zones of organization.yml"
            place: Place = ["factors", index, "zone"]
            self._known(document, place, factor.zone, self.zones["carbon"], where)
        for (factor_id, basis), indexes in by_factor.items():
            for _, later in self._overlaps(factors, indexes):
                self.mistakes.add(
                    document,
                    ["factors", later],
                    f"found factor_id {factor_id!r}, basis {basis!r} declared twice for"
                    f" {factors[later].valid_from}, expected once: end the earlier with valid_to",
                )

    def _targets(self) -> None:
        document = self.documents["targets.yml"]
        for index, target in enumerate(self.reference.targets):
            self._site(document, ["targets", index, "site_id"], target.site_id)
        keys = [(target.kpi_id, target.site_id) for target in self.reference.targets]
        self._no_double(document, "targets", keys)

    def _site_costs(self) -> None:
        document = self.documents["site_costs.yml"]
        for index, cost in enumerate(self.reference.site_costs):
            self._site(document, ["costs", index, "site_id"], cost.site_id)
            self._currency(document, ["costs", index, "currency_code"], cost.currency_code)
        self._no_double(document, "costs", [cost.cost_id for cost in self.reference.site_costs])

    def _fx_rates(self) -> None:
        rates = self.reference.fx_rates
        days = rates.select(pl.date_range(pl.col("rate_date").min(), pl.col("rate_date").max()))
        for currency in sorted(self.currencies | {self.reference.organization.reporting_currency}):
            own = rates.filter(pl.col("currency_code") == currency)
            missing = days.join(own, on="rate_date", how="anti")["rate_date"].sort()
            if len(missing):
                self.mistakes.causes.append(
                    f"fx_rates.csv: no {currency} rate for {missing[0]} ({len(missing)} days"
                    " missing): add every day"
                )

    def _files(self, folder: str) -> list[Document]:
        return [item for name, item in self.documents.items() if name.startswith(folder)]

    def _known(
        self,
        document: Document,
        place: Place,
        name: str | None,
        names: Collection[str],
        where: str,
    ) -> None:
        if name is not None and name not in names:
            self.mistakes.add(
                document, place, f"found {name!r}, expected a name declared in {where}"
            )

    def _site(self, document: Document, place: Place, site_id: str | None) -> None:
        self._known(document, place, site_id, self.sites, "sites/")

    def _currency(self, document: Document, place: Place, code: str) -> None:
        self._known(document, place, code, self.currencies, "fx_rates.csv")

    def _zone(self, document: Document, field: str, zone: str | None, kind: str) -> None:
        self._known(document, [field], zone, self.zones[kind], "zones of organization.yml")

    def _overlaps(
        self, dated: Sequence[Dated], indexes: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """(earlier, later) of neighbours in time of which the later begins too soon."""
        order = sorted(indexes, key=lambda index: dated[index].valid_from)
        for earlier, later in pairwise(order):
            end = dated[earlier].valid_to
            if end is None or end > dated[later].valid_from:
                yield earlier, later

    def _no_overlap(self, document: Document, place: Place, dated: Sequence[Dated]) -> None:
        for earlier, later in self._overlaps(dated, range(len(dated))):
            self.mistakes.add(
                document,
                [*place, later, "valid_from"],
                f"found {dated[later].valid_from}, expected no overlap with the terms from"
                f" {dated[earlier].valid_from} to {dated[earlier].valid_to or 'open'}: end those"
                " first",
            )

    def _no_gap(self, document: Document, place: Place, dated: Sequence[Dated]) -> None:
        order = sorted(range(len(dated)), key=lambda index: dated[index].valid_from)
        for earlier, later in pairwise(order):
            end = dated[earlier].valid_to
            if end is not None and end < dated[later].valid_from:
                self.mistakes.add(
                    document,
                    [*place, later, "valid_from"],
                    f"found {dated[later].valid_from}, expected {end}, when the terms before end:"
                    " leave no gap",
                )

    def _no_double(self, document: Document, field: str, keys: Sequence[Any]) -> None:
        for key in repeated(keys):
            last = max(index for index, other in enumerate(keys) if other == key)
            self.mistakes.add(document, [field, last], f"found {key!r} twice, expected it once")
