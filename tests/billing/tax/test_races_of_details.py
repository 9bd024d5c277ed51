"""Billing details changed by eight connections at once: each change is a version of its own, and none is lost."""

import itertools
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from accounts.models import Organization
from billing_portal.billing.models import BillingDetails
from billing_portal.billing.tax import details
from tests.billing.tax.places import BERLIN
from tests.ledger import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nothing_is_queued")]


def without_the_row_lock(patch: pytest.MonkeyPatch) -> None:
    """Let everybody read which version is the newest, and nobody wait for who writes the next one."""
    unlocked = SimpleNamespace(select_for_update=Organization.objects.all)
    patch.setattr(details, "Organization", SimpleNamespace(objects=unlocked))


@pytest.mark.parametrize("trials", [3, pytest.param(racing.TRIALS, marks=pytest.mark.long)])
def test_f27_of_eight_changes_at_once_each_is_one_version_and_one_that_says_nothing_new_is_none(
    customers: list[Organization], now: datetime
) -> None:
    def act(organization: Organization, number: int) -> BillingDetails:
        address = BERLIN | {"line1": f"Invalidenstraße {number // 2}"}  # two say the same
        return details.change(organization, user=None, legal_name="Acme", address=address, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert all(isinstance(each, BillingDetails) for each in answers)
        made = list(BillingDetails.objects.filter(organization=organization).order_by("version"))
        assert [each.version for each in made] == list(range(1, len(made) + 1))
        assert {each.pk for each in made} == {each.pk for each in answers}
        assert {each.line1 for each in made} == {f"Invalidenstraße {number}" for number in range(4)}
        assert all(before.line1 != after.line1 for before, after in itertools.pairwise(made))
        assert details.current(organization) == made[-1]

    racing.prove(customers, act, law, sabotage=without_the_row_lock)
