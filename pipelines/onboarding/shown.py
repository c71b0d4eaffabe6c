"""What `wattbook init` and `wattbook validate` print of KPIs.

What belongs here: the table of what they lack, and lines of where that is to be had. What does not:
finding it out (`needs.py`).
"""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from pipelines.onboarding.needs import Kpi, Lack


def table(sites: Mapping[str, Sequence[Kpi]]) -> Table:
    """Sites by KPI, each ready or with what it lacks."""
    made = Table(title="KPIs by site", title_justify="left", show_lines=True)
    made.add_column("site")
    for kpi in next(iter(sites.values()), ()):
        made.add_column(kpi.name)
    for site_id, of_site in sites.items():
        made.add_row(site_id, *(_cell(kpi) for kpi in of_site))
    return made


def remedies(sites: Mapping[str, Sequence[Kpi]]) -> Iterator[str]:
    """Where what is lacking is declared or landed, each once."""
    lacks = dict.fromkeys(lack for kpis in sites.values() for kpi in kpis for lack in kpi.lacks)
    for lack in lacks:
        verb = "land" if lack.is_declared else "declare"
        without = f"; without: {lack.without}" if lack.without else ""
        yield f"{lack.name}: {verb} in {lack.where}{without}"


def _cell(kpi: Kpi) -> str:
    if not kpi.is_of_venue:
        return "not of a public cloud"
    missing = [_said(lack) for lack in kpi.lacks if lack.without is None]
    if missing:
        return "lacks\n" + "\n".join(missing)
    weaker = [_said(lack) for lack in kpi.lacks]
    return "ready, but without\n" + "\n".join(weaker) if weaker else "ready"


def _said(lack: Lack) -> str:
    return f"{lack.name} ({'nothing landed' if lack.is_declared else 'not declared'})"
