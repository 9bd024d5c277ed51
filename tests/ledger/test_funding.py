"""What each single call was funded by, shown on demand: in all exactly what the settlements burnt and accrued."""

from collections import Counter

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_portal.ledger import credits, settlement
from billing_portal.ledger.models import Burn, Grant, Settlement
from tests.charged import all_charges

pytestmark = pytest.mark.django_db

CALLS = 14
# Before each settlement of so many charges, so much credit is given; nothing, a micro, or a good part of all calls.
STEPS = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.lists(st.tuples(st.sampled_from(list(Grant.Kind)), st.sampled_from([1, 777, 60_000, 400_000])), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_i04_the_funding_of_all_calls_is_what_their_settlement_burnt_and_accrued(with_calls, now, steps):
    with transaction.atomic():
        acme = with_calls("acme", CALLS)
        for number, (limit, given_credit) in enumerate(steps):
            for place, (kind, micros) in enumerate(given_credit):
                reference = f"{number}:{place}"
                credits.grant(
                    organization=acme, kind=kind, micros=micros, reference=reference, now=now, reason="for the test"
                )
            settlement.settle(acme.pk, now=now, limit=limit)
        settled = [charge for charge in all_charges(organization=acme) if charge.sequence is not None]
        assert len(settled) == min(CALLS, sum(limit for limit, _ in steps))
        for each in Settlement.objects.filter(organization=acme):
            assert_adds_up(each, [c for c in settled if each.first_sequence <= c.sequence <= each.last_sequence])
        transaction.set_rollback(True)


def assert_adds_up(settled, charges):
    by_grant, accrued = Counter(), 0
    for charge in charges:
        funding = settlement.funding(charge)
        assert sum(micros for _, micros in funding.grants) + funding.accrued_micros == charge.amount_micros
        assert all(micros > 0 for _, micros in funding.grants)
        by_grant.update({grant.pk: micros for grant, micros in funding.grants})
        accrued += funding.accrued_micros
    burnt = Counter()
    for grant_id, micros in Burn.objects.filter(settlement=settled).values_list("grant_id", "micros"):
        burnt[grant_id] += micros
    assert by_grant == burnt
    assert accrued == settled.accrued_micros
    assert sum(burnt.values()) + accrued == settled.gross_micros
