"""What all reference files have in common: kinds of fields, and things that hold for a time.

What belongs here: field types and base models without a subject. What does not: anything that
one kind of file alone declares.
"""

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

_TIME_ZONES = available_timezones()


def _known_time_zone(name: str) -> str:
    if name not in _TIME_ZONES:
        raise PydanticCustomError(
            "time_zone", "expected an IANA time zone such as Europe/Berlin: correct the name"
        )
    return name


def _month(text: str) -> str:
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text):
        raise PydanticCustomError("month", "expected a month as 2026-04")
    return text


def text_like(expected: str, example: str, pattern: str | None = None) -> Any:
    """What a text field of a kind expects, for messages and editors, which would show a pattern."""
    extra: dict[str, Any] = {"patternErrorMessage": f"expected {expected}", "examples": [example]}
    if pattern is not None:
        extra["pattern"] = pattern
    return Field(json_schema_extra=extra)


TimeZone = Annotated[
    str,
    AfterValidator(_known_time_zone),
    text_like("an IANA time zone such as Europe/Berlin", "Europe/Berlin"),
]


Month = Annotated[
    str,
    AfterValidator(_month),
    text_like("a month as 2026-04", "2026-04", r"^\d{4}-(0[1-9]|1[0-2])$"),
]


CountryCode = Annotated[
    str, Field(pattern="^[A-Z]{2}$"), text_like("a country in two capital letters, as DE", "DE")
]


Currency = Annotated[
    str,
    Field(pattern="^[A-Z]{3}$"),
    text_like("a currency in three capital letters, as EUR", "EUR"),
]


Identifier = Annotated[
    str,
    Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    text_like("letters, digits, '.', '_' and '-', beginning with a letter or digit", "north-1"),
]


Share = Annotated[float, Field(ge=0, le=1)]


Efficiency = Annotated[float, Field(gt=0, le=1)]


Amount = Annotated[float, Field(ge=0)]


VenueKind = Literal["own_site", "hpc_allocation", "public_cloud"]


Basis = Literal["direct", "life_cycle"]


EnergySource = Literal[
    "solar",
    "wind",
    "hydro",
    "geothermal",
    "biomass",
    "nuclear",
    "coal",
    "gas",
    "oil",
    "unknown",
]
"""As the connectors name what certificates and generation mixes are made of."""


class Model(BaseModel):
    """A mapping of a reference file: unknown fields and values of another type are mistakes."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Dated(Model):
    """Something that holds from a local date on, up to and without another."""

    valid_from: date = date(1970, 1, 1)
    """First local date on which it holds, as 2026-01-01; left out: from ever on."""
    valid_to: date | None = None
    """Local date from which on it no longer holds; left out: it holds until further notice."""

    @model_validator(mode="after")
    def _is_forward(self) -> "Dated":
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise PydanticCustomError(
                "validity", "expected valid_to after valid_from: correct one of the two"
            )
        return self


class Terms(Dated):
    """Terms that have to say since when they hold."""

    valid_from: date
    """First local date on which these terms hold, as 2026-01-01."""


def local_midnight(day: date, time_zone: str) -> datetime:
    """The UTC instant at which a local day begins."""
    return datetime.combine(day, time(), tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
