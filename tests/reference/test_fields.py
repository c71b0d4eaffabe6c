"""What fields of reference files hold, whatever they are of."""

from datetime import date

import pytest
from pydantic import ValidationError

from pipelines.reference.fields import Dated

DAY = date(2026, 11, 1)


@pytest.mark.parametrize("last", [date(2026, 10, 31), DAY])
def test_terms_that_end_before_a_day_has_passed_are_refused(last):
    with pytest.raises(ValidationError, match="expected valid_to after valid_from"):
        Dated(valid_from=DAY, valid_to=last)


def test_terms_may_hold_for_a_single_day():
    terms = Dated(valid_from=DAY, valid_to=date(2026, 11, 2))
    assert terms.model_dump() == {"valid_from": DAY, "valid_to": date(2026, 11, 2)}
