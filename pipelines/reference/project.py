"""Names that the dbt project declares: KPIs and their inputs, rules of the agenda and of findings.

What belongs here: reading them from `dbt_project.yml`, where the models take them from too. What
does not: what they come to (dbt).
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_PROJECT = Path(__file__).parents[2] / "dbt_project" / "dbt_project.yml"


@cache
def _variables() -> dict[str, Any]:
    variables: dict[str, Any] = yaml.safe_load(_PROJECT.read_text(encoding="utf-8"))["vars"]
    return variables


def kpi_ids() -> tuple[str, ...]:
    """The KPIs of the scorecard in its order."""
    return tuple(kpi["kpi_id"] for kpi in _variables()["kpis"])


def headline_kpis() -> dict[str, str]:
    """The names of the KPIs that head the pack, by kpi_id in its order."""
    return {kpi["kpi_id"]: kpi["name"] for kpi in _variables()["kpis"] if kpi["is_headline"]}


def kpi_inputs() -> tuple[dict[str, Any], ...]:
    """What the KPIs that head the pack are made of, as declared, in the order to tell them.

    Keys: input_id, name (in plain words), kpi_ids, venue_kinds, landing_formats (any of them brings
    it; none where people declare it), reference_field; is_either, if that is as good as a file;
    needed_where, if only some of those venues need it; without, if the KPIs are known without it
    and only less well: in what.
    """
    return tuple(_variables()["kpi_inputs"])


def agenda_rules() -> tuple[str, ...]:
    """The rules of the agenda, which proposals are named after."""
    return tuple(_variables()["agenda_rules"])


def finding_rules() -> tuple[dict[str, Any], ...]:
    """What data can violate: rule_id, description, source_table, unit, is_withheld, mend."""
    return tuple(_variables()["finding_rules"])
