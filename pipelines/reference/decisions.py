"""Decisions of the weekly meeting: what was decided, by whom, and the effect expected of it.

What belongs here: one file of `decisions/`. What does not: what came of a decision, which the book
measures (`fct_decision_effects`).
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from pipelines.reference.fields import Amount, Identifier, Model, text_like


def _week(text: str) -> str:
    try:
        year, number = text.split("-W")
        monday = date.fromisocalendar(int(year), int(number), 1)
    except ValueError:
        monday = None
    if monday is None or f"{monday:%G-W%V}" != text:
        raise PydanticCustomError("week", "expected an ISO week as 2026-W40")
    return text


Week = Annotated[
    str,
    AfterValidator(_week),
    text_like("an ISO week as 2026-W40", "2026-W40", r"^\d{4}-W(0[1-9]|[1-4]\d|5[0-3])$"),
]

Measure = Literal[
    "energy_kwh_per_gpu_hour",
    "market_valued_energy_cost_per_gpu_hour",
    "location_based_g_per_gpu_hour",
    "location_based_g_per_kwh",
]
"""What an effect is measured by. Each is a ratio to load, so that weeks of other load compare."""


class Decision(Model):
    """One decision. `expected_change` is in the unit of the measure, negative where it should fall.

    With `to_site_id` work moves there from `site_id`, or stays where both are the same, expected to
    cost `expected_energy_cost_per_gpu_hour`. With `power_limit_ratio` the GPUs of `site_id` are
    held to that share of the power limit they come with, until another decision says otherwise:
    what work that costs is the decision's, and no incident.
    """

    decision_id: Identifier
    """Short name of the decision, such as berlin-power-cap."""
    title: str
    """What was decided, in a sentence."""
    kind: Literal["capacity", "workload_priority", "grid_risk", "contract", "data"]
    """What the decision is about."""
    decided_on: date
    """Date of the meeting, as 2026-09-08."""
    decided_by: Literal["infra", "operations", "finance", "energy"]
    """Team that decided."""
    week: Week
    """ISO week of the pack that it rests on, as 2026-W37."""
    effective_from: date
    """First date on which it has an effect, as 2026-09-14."""
    review_week: Week
    """ISO week whose figures show the effect, as 2026-W44."""
    site_id: str | None = None
    """Site that it is about; left out: all, of the workload."""
    workload_id: str | None = None
    """Workload that it is about; left out: all, at the site."""
    measure: Measure
    """Figure that the effect is measured by."""
    expected_change: float
    """Change expected, in the unit of the measure; negative where it should fall."""
    to_site_id: str | None = None
    """Site that work moves to, or stays at where it is the same; left out: nothing moves."""
    expected_energy_cost_per_gpu_hour: Amount | None = None
    """Energy cost of a GPU-hour expected there, in the reporting currency; left out: none is
    expected."""
    power_limit_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of their power limit that the site's GPUs are held to, such as 0.8; left out: not
    limited."""
    agenda_proposal_id: str | None = None
    """Proposal of the agenda that it follows, such as demand_peak:berlin; left out: none."""

    @model_validator(mode="after")
    def _is_measurable(self) -> "Decision":
        if self.site_id is None and self.workload_id is None:
            raise PydanticCustomError(
                "subject", "found neither site_id nor workload_id, expected at least one: add it"
            )
        if self.to_site_id is not None and (self.site_id is None or self.workload_id is None):
            raise PydanticCustomError(
                "placement",
                "found to_site_id alone, expected site_id and workload_id beside it: say what"
                " moves and from where",
            )
        if self.power_limit_ratio is not None and self.site_id is None:
            raise PydanticCustomError(
                "power_limit",
                "found power_limit_ratio alone, expected site_id beside it: say whose GPUs",
            )
        if self.expected_change == 0:
            raise PydanticCustomError(
                "effect", "found expected_change 0, expected how much the measure should change"
            )
        if f"{self.effective_from:%G-W%V}" > self.review_week:
            raise PydanticCustomError(
                "review",
                "found review_week before effective_from, expected a week that can show the"
                " effect: choose a later one",
            )
        return self
