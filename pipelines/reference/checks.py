"""What no single reference file can show: names nothing declares, overlaps, doubles, gaps.

What belongs here: rules over several entries or files. What does not: rules that one entry can
break by itself, which are in its model.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import pairwise
from math import fsum
from typing import Any

import polars as pl

from pipelines.reference import project
from pipelines.reference.contracts.grid import GridConnection, SupplyTariff
from pipelines.reference.contracts.power import CpiEscalation, PlantContract, mistakes_in_terms
from pipelines.reference.contracts.service import BatteryTolling, CloudCommitment, HpcAllocation
from pipelines.reference.documents import Document, Mistakes, Place, repeated
from pipelines.reference.fields import Dated, local_midnight
from pipelines.reference.model import Kind, Reference
from pipelines.reference.sites import hostnames

_OPEN = datetime.max.replace(tzinfo=UTC)
"""After everything: the end of terms that have none."""


def _or(name: str, names: Collection[str]) -> str:
    """A suggestion of the name that was probably meant."""
    near = get_close_matches(name, names, n=1)
    return f": perhaps {near[0]!r}" if near else ""


class CrossChecks:
    """What no single file can show: names that nothing declares, overlaps, doubles, gaps."""

    def __init__(
        self, reference: Reference, documents: dict[str, Document], mistakes: Mistakes
    ) -> None:
        self.reference = reference
        self.documents = documents
        self.mistakes = mistakes
        self.sites = {site.site_id: site for site in reference.sites}
        reporting_currency = reference.organization.reporting_currency
        self.pulled_currencies = {
            currency
            for source in reference.sources
            if source.kind == "ecb"
            for currency in ("EUR", *source.currencies)
        }
        self.currencies = {
            reporting_currency,
            *reference.fx_rates["currency_code"],
            *self.pulled_currencies,
        }
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
        self._grid_contracts()
        self._service_contracts()
        self._workloads()
        self._capacity_plan()
        self._forward_prices()
        self._emission_factors()
        self._targets()
        self._agenda()
        self._site_costs()
        self._decisions()
        self._fx_rates()
        self._pulled_rates()
        self._mappings()

    def _sites(self) -> None:
        gpu_models = {model.gpu_model for model in self.reference.gpu_models}
        deliveries: dict[str, str] = {}
        for site, document in zip(self.reference.sites, self._files("sites/"), strict=True):
            self._zone(document, "bidding_zone", site.bidding_zone, "bidding")
            self._zone(document, "carbon_zone", site.carbon_zone, "carbon")
            self._currency(document, ["currency_code"], site.currency_code)
            self._no_overlap(document, ["terms"], site.terms)
            for index, group in enumerate(site.node_groups):
                place: Place = ["node_groups", index, "gpu_model"]
                self._known(document, place, group.gpu_model, gpu_models, "gpu_models.yml")
            if site.cloud is not None:
                place = ["cloud", "gpu_model"]
                self._known(document, place, site.cloud.gpu_model, gpu_models, "gpu_models.yml")
                provider, found = site.cloud.provider_name, site.cloud.bill_delivery
                expected = deliveries.setdefault(provider, found)
                if found != expected:
                    self.mistakes.add(
                        document,
                        ["cloud", "bill_delivery"],
                        f"found {found}, expected {expected} as at {provider}'s other sites: one"
                        " bill is delivered in one way",
                    )

    def _names_declared_once(self) -> None:
        sites = self.reference.sites
        for what, names in (
            ("site_id", [site.site_id for site in sites]),
            ("contract_id", [contract.contract_id for contract in self.reference.contracts]),
            ("cluster", [cluster for site in sites for cluster in site.clusters]),
            ("battery_id", [b.battery_id for site in sites for b in site.batteries]),
            ("decision_id", [decision.decision_id for decision in self.reference.decisions]),
        ):
            for name in repeated(names):
                self.mistakes.causes.append(
                    f"{what} {name!r} is declared twice, expected once: rename one"
                )
        # A mistyped range repeats thousands of names; the first few show it.
        for name in repeated([name for site in sites for name in hostnames(site)])[:5]:
            self.mistakes.causes.append(
                f"host name {name!r} is declared twice in node_groups: leave it to one"
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

    def _grid_contracts(self) -> None:
        """A site has one connection and one supplier at a time, and a price to follow."""
        self._one_at_a_time(self._contracts_of(GridConnection))
        self._one_at_a_time(self._contracts_of(SupplyTariff))
        for tariff, document in self._contracts_of(SupplyTariff):
            site = self.sites.get(tariff.site_id)
            for index, terms in enumerate(tariff.terms):
                if terms.price_basis == "spot_plus" and site and site.price_market is None:
                    self.mistakes.add(
                        document,
                        ["terms", index, "price_basis"],
                        f"found 'spot_plus', expected price_market in the file of site"
                        f" {site.site_id}",
                    )

    def _one_at_a_time(
        self, contracts: Sequence[tuple[GridConnection | SupplyTariff, Document]]
    ) -> None:
        by_site: dict[str, list[int]] = {}
        entries = [
            (contract, index, document)
            for contract, document in contracts
            for index in range(len(contract.terms))
        ]
        dated = [contract.terms[index] for contract, index, _ in entries]
        for number, (contract, *_) in enumerate(entries):
            by_site.setdefault(contract.site_id, []).append(number)
        for site_id, numbers in by_site.items():
            for earlier, later in self._overlaps(dated, numbers):
                contract, index, document = entries[later]
                other = entries[earlier][0].contract_id
                if other != contract.contract_id:
                    self.mistakes.add(
                        document,
                        ["terms", index, "valid_from"],
                        f"found {dated[later].valid_from}, when {other} is the {contract.kind} of"
                        f" site {site_id}, expected one at a time: end the earlier with valid_to",
                    )

    def _service_contracts(self) -> None:
        for allocation, document in self._contracts_of(HpcAllocation):
            site = self.sites.get(allocation.site_id)
            if site and site.holders == "telemetry":
                self.mistakes.add(
                    document,
                    ["site_id"],
                    f"found site {site.site_id}, whose holders are told by telemetry, expected one"
                    " whose jobs are listed: it is settled by their node-hours",
                )
        for tolling, document in self._contracts_of(BatteryTolling):
            site = self.sites.get(tolling.site_id)
            batteries = {item.battery_id: item for item in site.batteries} if site else {}
            where = f"batteries of site {tolling.site_id}"
            self._known(document, ["battery_id"], tolling.battery_id, batteries, where)
            battery = batteries.get(tolling.battery_id)
            for index, terms in enumerate(tolling.terms):
                if battery and terms.tolled_mw > battery.power_mw:
                    self.mistakes.add(
                        document,
                        ["terms", index, "tolled_mw"],
                        f"found {terms.tolled_mw:g}, expected at most the power_mw"
                        f" {battery.power_mw:g} of battery {battery.battery_id}",
                    )
        discounts = [c.commitment_discount_id for c, _ in self._contracts_of(CloudCommitment)]
        for commitment, document in self._contracts_of(CloudCommitment):
            site = self.sites.get(commitment.site_id)
            skus = site.cloud.gpus_per_instance if site and site.cloud else {}
            where = f"gpus_per_instance of site {commitment.site_id}"
            self._known(document, ["sku"], commitment.sku, skus, where)
            if discounts.count(commitment.commitment_discount_id) > 1:
                self.mistakes.add(
                    document,
                    ["commitment_discount_id"],
                    f"found {commitment.commitment_discount_id!r} in two contracts, expected one:"
                    " its charges would be settled twice",
                )

    def _contracts_of(self, kind: type[Kind]) -> list[tuple[Kind, Document]]:
        return [
            (contract, document)
            for contract, document in zip(
                self.reference.contracts, self._files("contracts/"), strict=True
            )
            if isinstance(contract, kind)
        ]

    def _workloads(self) -> None:
        document = self.documents["workloads.yml"]
        names = [workload.workload_id for workload in self.reference.workloads]
        countries = {site.country_code for site in self.reference.sites}
        clusters = {cluster for site in self.reference.sites for cluster in site.clusters}
        self._no_double(document, "workloads", names)
        for index, workload in enumerate(self.reference.workloads):
            for number, country in enumerate(workload.allowed_countries or ()):
                place: Place = ["workloads", index, "allowed_countries", number]
                self._known(document, place, country, countries, "country_code of sites/")
            for site_id in workload.latency_ms:
                self._site(document, ["workloads", index, "latency_ms", site_id], site_id)
        for index, rule in enumerate(self.reference.rules):
            place = ["rules", index, "workload_id"]
            self._known(document, place, rule.workload_id, set(names), "workloads")
            if rule.cluster != "*":
                place = ["rules", index, "cluster"]
                self._known(document, place, rule.cluster, clusters, "clusters of sites/")

    def _capacity_plan(self) -> None:
        document = self.documents["capacity_plan.yml"]
        commitments = self.reference.capacity_plan.commitments
        for index, commitment in enumerate(commitments):
            place: Place = ["commitments", index, "site_id"]
            self._site(document, place, commitment.site_id)
            site = self.sites.get(commitment.site_id)
            if site is not None and site.venue_kind == "public_cloud":
                self.mistakes.add(
                    document,
                    place,
                    f"found {commitment.site_id!r}, expected a site with a connection: what is"
                    " committed to in a cloud is a contract of kind cloud_commitment",
                )
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
                    f" in {where}{_or(name, names)}"
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
            place: Place = ["targets", index, "kpi_id"]
            where = "kpis of dbt_project.yml"
            self._known(document, place, target.kpi_id, project.kpi_ids(), where)
            self._site(document, ["targets", index, "site_id"], target.site_id)
        keys = [(target.kpi_id, target.site_id) for target in self.reference.targets]
        self._no_double(document, "targets", keys)

    def _agenda(self) -> None:
        document = self.documents["organization.yml"]
        for rule_id in self.reference.organization.agenda.floors:
            place: Place = ["agenda", "floors", rule_id]
            where = "agenda_rules of dbt_project.yml"
            self._known(document, place, rule_id, project.agenda_rules(), where)

    def _decisions(self) -> None:
        workloads = {workload.workload_id for workload in self.reference.workloads}
        files = self._files("decisions/")
        for decision, document in zip(self.reference.decisions, files, strict=True):
            self._site(document, ["site_id"], decision.site_id)
            self._site(document, ["to_site_id"], decision.to_site_id)
            self._known(document, ["workload_id"], decision.workload_id, workloads, "workloads.yml")
            if decision.agenda_proposal_id is not None:
                rule, colon, _ = decision.agenda_proposal_id.partition(":")
                where = "agenda_rules of dbt_project.yml, a colon and its subject"
                place: Place = ["agenda_proposal_id"]
                self._known(document, place, rule if colon else "", project.agenda_rules(), where)

    def _site_costs(self) -> None:
        document = self.documents["site_costs.yml"]
        for index, cost in enumerate(self.reference.site_costs):
            self._site(document, ["costs", index, "site_id"], cost.site_id)
            self._currency(document, ["costs", index, "currency_code"], cost.currency_code)
        self._no_double(document, "costs", [cost.cost_id for cost in self.reference.site_costs])

    def _fx_rates(self) -> None:
        rates = self.reference.fx_rates.sort("rate_date")
        if rates.is_empty():
            return
        days = rates.select(pl.date_range(pl.col("rate_date").min(), pl.col("rate_date").max()))
        longest = self.reference.organization.fx_rate_holds_days
        known = self.pulled_currencies | {self.reference.organization.reporting_currency}
        for currency in sorted({*rates["currency_code"]} - known):
            own = rates.filter(pl.col("currency_code") == currency)
            held = days.join_asof(own, on="rate_date", tolerance=timedelta(days=longest))
            missing = held.filter(pl.col("rate_to_reporting").is_null())["rate_date"]
            if len(missing):
                self.mistakes.causes.append(
                    f"fx_rates.csv: no {currency} rate for {missing[0]} ({len(missing)} days"
                    f" missing), expected one that is at most {longest} days old"
                    " (fx_rate_holds_days of organization.yml): add it"
                )

    def _pulled_rates(self) -> None:
        """A bank says what the euro is worth: nothing without that in the book's currency."""
        reporting = self.reference.organization.reporting_currency
        for index, source in enumerate(self.reference.sources):
            if source.kind == "ecb" and reporting not in self.pulled_currencies:
                self.mistakes.add(
                    self.documents["sources.yml"],
                    ["sources", index, "currencies"],
                    f"found no {reporting}, expected the currency of the reporting, by way of which"
                    " the others are converted: add it",
                )

    def _mappings(self) -> None:
        """A folder is read in one way, and of a meter that is named here there has to be one."""
        document = self.documents.get("mappings.yml")
        if document is None:
            return
        mappings = self.reference.mappings
        self._no_double(document, "readings_csv", [one.folder for one in mappings.readings_csv])
        hosts = {name for site in self.reference.sites for name in hostnames(site)}
        meters = {meter.meter_id for meter in self.reference.meters}
        for index, reading in enumerate(mappings.readings_csv):
            place: Place = ["readings_csv", index, "meter_id"]
            constant, codes = reading.meter_id.constant, reading.meter_id.codes or {}
            self._known(document, place, constant, meters, "meters.yml")
            for code, name in codes.items():
                self._known(document, [*place, "codes", code], name, meters, "meters.yml")
        for index, metric in enumerate(mappings.metrics):
            for field, declared, where in (
                ("host", hosts, "node_groups of sites/"),
                ("meter", meters, "meters.yml"),
            ):
                label = getattr(metric, field)
                for found, name in ((label and label.names) or {}).items():
                    place = ["metrics", index, field, "names", found]
                    self._known(document, place, name, declared, where)

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
                document,
                place,
                f"found {name!r}, expected a name declared in {where}{_or(name, names)}",
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
