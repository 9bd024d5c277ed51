"""What the benchmarks measure on must be what the product itself would have made."""

import itertools

import pytest

from billing_portal.local.bench import load, rows
from usage import charges, rollup_upkeep, rollups
from usage.models import Call, CallKey, CallRange
from usage.storage import key_of

pytestmark = pytest.mark.django_db(transaction=True)
CALLS = 3_000


def test_made_calls_have_keys_ranges_and_numbers_like_recorded_ones():
    organizations = load.organizations(5)
    assert rows.hold(organizations, CALLS, detailed=10) == CALLS
    made = Call.objects.filter(organization__in=organizations)
    assert made.count() == CallKey.objects.filter(organization__in=organizations).count() == CALLS
    one = made.order_by("started_at", "id").first()
    assert (
        CallKey.objects.get(organization_id=one.organization_id, key=key_of(one.call_id)).started_at == one.started_at
    )
    for organization in organizations:
        uncharged = charges.uncharged(organization.pk, starts_at=load.MONTH, ends_at=load.ENDS_AT)
        assert list(uncharged) == []
        ranges = CallRange.objects.filter(organization=organization).order_by("first_sequence")
        spans = [(each.first_sequence, each.last_id - each.first_id + 1) for each in ranges]
        assert all(begin + size == following for (begin, size), (following, _) in itertools.pairwise(spans))
        assert spans[0][0] == 1


def test_made_calls_are_many_of_the_largest_organization_and_are_made_once():
    organizations = load.organizations(5)
    rows.hold(organizations, CALLS)
    assert rows.hold(organizations, CALLS) == 0
    sizes = [Call.objects.filter(organization=organization).count() for organization in organizations]
    assert sum(sizes) == CALLS
    assert sizes[0] > 1.7 * sizes[1] > 1.7 * 1.7 * sizes[4]


def test_more_calls_go_on_where_the_first_ended():
    organizations = load.organizations(2)
    rows.hold(organizations, 1_000)
    assert rows.hold(organizations, CALLS) == CALLS - 1_000
    numbers = [charged.sequence for charged in charges.of_month(organizations[0].pk, load.MONTH.date())]
    assert numbers == list(range(1, len(numbers) + 1))


def test_rollups_of_made_calls_are_their_sums():
    organizations = load.organizations(2)
    rows.hold(organizations, CALLS)
    rows.roll_up(organizations)
    assert [rollup_upkeep.verify(organization.pk) for organization in organizations] == [[], []]
    totals = [rollups.component_totals(organization.pk, load.MONTH.date()) for organization in organizations]
    assert sum(sum(each.values()) for each in totals) > 0
