"""What `wattbook init` and `wattbook validate` print, for a terminal.

What belongs here: tables of what lands where and of what KPIs lack. What does not: finding it out
(`beginning.py`, `needs.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.table import Table

from pipelines.onboarding.needs import Kpi, Lack


def landing(rows: Iterable[tuple[str, str, bool]]) -> Table:
    """What belongs into which folder of landing/, of rows as `beginning.landing` gives them."""
    table = Table(title="What lands where", title_justify="left")
    for name in ("folder", "files", "brought by"):
        table.add_column(name)
    for folder, what, is_pulled in rows:
        table.add_row(f"landing/{folder}/", what, "wattbook pull" if is_pulled else "you")
    return table


def kpis(sites: Mapping[str, Sequence[Kpi]]) -> Iterator[Table | str]:
    """Sites by KPI, each ready or with what it lacks, and below where that is to be had."""
    table = Table(title="KPIs by site", title_justify="left", show_lines=True)
    table.add_column("site")
    for kpi in next(iter(sites.values()), ()):
        table.add_column(kpi.name)
    for site_id, of_site in sites.items():
        table.add_row(site_id, *(_cell(kpi) for kpi in of_site))
    yield table
    lacks = {lack: None for of_site in sites.values() for kpi in of_site for lack in kpi.lacks}
    for lack in lacks:
        verb = "land" if lack.is_declared else "declare"
        yield f"{lack.name}: {verb} in {lack.where}" + (
            f"; without: {lack.without}" if lack.without else ""
        )


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
