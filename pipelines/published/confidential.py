"""How a team without contract prices sees what rests on them.

What belongs here: the SQL that stands in for such a column when it is published. What does not:
which columns these are (`config.meta.confidential` in dbt), which prices are public (reference
data), and which tables and columns a team sees at all (`publishing.py`).

A column says one of `MASKS`, or `{mask: ..., where: ...}` with SQL of the rows it holds for, or
`{shown: ...}` with SQL of its own, which may call `rounded`. Rows of a site whose prices are all
public stay as they are; a model whose rows are about several sites says `confidential_scope:
organization`, and then the prices of all sites have to be.

- `withheld`: null. For what gives a price away by itself, and for amounts beside their quantity:
  over many rows their mean quotient is as exact as if none had been rounded.
- `rounded`: the nearest power of `confidential_rounding_ratio`. What is always the same then always
  looks the same, and no mean over many rows comes closer to it.
- `rounded_in_text`: the same of each amount of money in a sentence.
"""

from dataclasses import dataclass
from typing import Any

from pipelines.errors import BookError

MASKS = {
    "withheld": ("null", "Empty where it would give away a confidential contract price."),
    "rounded": ("rounded({})", "Rounded where it rests on confidential contract prices."),
    "rounded_in_text": (
        "rounded_in_text({}, currency_code)",
        "Amounts are rounded where they rest on confidential contract prices.",
    ),
}
# Whose prices have to be public for a row to be shown as it is; none where that changes nothing.
SCOPES = ("site", "organization", "none")

# A price of CO2e is no contract's, and stays in a sentence as it is.
_MACROS = (
    """
    create temp macro rounded(x) as case
        when x = 0 then 0
        else sign(x) * pow({ratio}, round(ln(abs(x)) / ln({ratio})))
    end
    """,
    """
    create temp macro written(x) as case
        when x < 10 then format('{{:.1f}}', x)
        else format('{{:,.0f}}', round(x, 1 - cast(floor(log10(x)) as integer)))
    end
    """,
    """
    create temp macro amounts_of(currency_code) as
        '[0-9][0-9,]*(?:[.][0-9]+)? ' || currency_code || '(?: a tonne)?'
    """,
    """
    create temp macro rounded_in_text(sentence, currency_code) as case
        when sentence is not null then array_to_string(
            list_transform(
                list_zip(
                    string_split_regex(sentence, amounts_of(currency_code)),
                    regexp_extract_all(sentence, amounts_of(currency_code))
                ),
                lambda part: part[1] || case
                    when part[2] is null then ''
                    when part[2] like '% a tonne' then part[2]
                    else
                        written(rounded(try_cast(
                            replace(regexp_extract(part[2], '^[0-9,.]+'), ',', '') as double
                        ))) || ' ' || currency_code
                end
            ),
            ''
        )
    end
    """,
)


class MaskError(BookError):
    """A model says of a column what no way to show it is."""


@dataclass(frozen=True)
class Mask:
    """How a column is shown where it is confidential."""

    shown: str
    """SQL of what stands for it, in a query of its table named `seen`."""
    comment: str
    """What to add to the column's description."""
    scope: str
    where: str = "true"

    def sql(self, column: str) -> str:
        """The column as it is published, once `macros` are there."""
        conditions = [self.where]
        if self.scope != "none":
            of_site = "where sites.site_id = seen.site_id or seen.site_id is null"
            conditions.append(
                "not (select coalesce(bool_and(sites.has_public_prices), false)"
                f" from book.marts.dim_sites as sites {of_site if self.scope == 'site' else ''})"
            )
        return f"case when {' and '.join(conditions)} then {self.shown} else {column} end"


def macros(ratio: float) -> list[str]:
    """What a DuckDB session has to run before masks are read."""
    return [macro.format(ratio=ratio) for macro in _MACROS]


def mask(column: str, how: Any, scope: str | None, file: str) -> Mask:
    """How a column is shown, as its model says it.

    Raises:
        MaskError: it says what there is not.
    """
    said = {"scope": scope or "site", **(how if isinstance(how, dict) else {"mask": how})}
    name = said.get("mask", "rounded")
    for key, found, expected in (("mask", name, MASKS), ("scope", said["scope"], SCOPES)):
        if found not in expected:
            raise MaskError(
                [
                    f"{file}: {column}: confidential: {key}: found {found!r},"
                    f" expected one of {', '.join(expected)}"
                ]
            )
    shown, comment = MASKS[name]
    return Mask(
        said.get("shown") or shown.format(f'"{column}"'),
        comment,
        said["scope"],
        said.get("where", "true"),
    )
