from datetime import UTC, date, datetime, timedelta

import pytest

from accounts import organizations
from billing_portal.ledger import accounts, periods
from billing_portal.ledger.models import Account, Period

pytestmark = pytest.mark.django_db
SEPTEMBER, OCTOBER, NOVEMBER, DECEMBER = (date(2026, month, 1) for month in (9, 10, 11, 12))
FIRST_OF_NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def spans_of(organization):
    rows = Period.objects.filter(organization=organization).order_by("month")
    return list(rows.values_list("month", "time_zone", "starts_at", "ends_at"))


def test_a_month_is_opened_once_with_the_bounds_of_the_organization_s_zone(make_organization, now):
    tokyo = make_organization("tokyo", time_zone="Asia/Tokyo")
    account = accounts.open(organization=tokyo, now=now)
    midnight = datetime(2026, 10, 31, 15, tzinfo=UTC)
    assert periods.of_instant(account, midnight - INSTANT).month == OCTOBER
    assert periods.of_instant(account, now) == periods.of_instant(account, midnight - INSTANT)
    assert periods.of_instant(account, midnight).month == NOVEMBER
    assert spans_of(tokyo) == [
        (OCTOBER, "Asia/Tokyo", datetime(2026, 9, 30, 15, tzinfo=UTC), midnight),
        (NOVEMBER, "Asia/Tokyo", midnight, datetime(2026, 11, 30, 15, tzinfo=UTC)),
    ]


def test_what_happened_before_the_books_or_in_a_closed_month_belongs_to_the_first_open_one(acme, books, now):
    assert periods.of_instant(books, now - timedelta(days=60)).month == OCTOBER
    periods.close(acme.pk, OCTOBER, now=FIRST_OF_NOVEMBER)
    assert periods.of_instant(books, now).month == NOVEMBER
    assert periods.of_instant(books, FIRST_OF_NOVEMBER - INSTANT).month == NOVEMBER
    assert periods.of_instant(books, FIRST_OF_NOVEMBER + timedelta(days=30)).month == DECEMBER


def test_many_instants_are_placed_as_each_by_itself_and_in_their_order(
    make_organization, now, django_assert_num_queries
):
    made = []
    for name in ("a", "b", "c"):
        organization = make_organization(name)
        made.append(accounts.open(organization=organization, now=now))
        periods.of_instant(made[-1], now)
        periods.of_instant(made[-1], FIRST_OF_NOVEMBER)
    periods.close(made[1].organization_id, OCTOBER, now=FIRST_OF_NOVEMBER)
    instants = [now, now - timedelta(days=60), FIRST_OF_NOVEMBER - INSTANT, FIRST_OF_NOVEMBER]
    for instant in instants:
        asked = [(account, instant) for account in reversed(made)]
        with django_assert_num_queries(1):
            found = periods.of_instants(asked)
        assert found == [periods.of_instant(account, instant) for account, instant in asked]
        assert [period.organization_id for period in found] == [account.organization_id for account, _ in asked]
    beyond = FIRST_OF_NOVEMBER + timedelta(days=30)
    periods.close(made[2].organization_id, NOVEMBER, now=beyond)
    december = periods.of_instant(made[2], beyond)
    with django_assert_num_queries(1):
        assert periods.of_instants([(made[2], now)]) == [december]
    assert [period.month for period in periods.of_instants([(made[0], beyond), (made[1], now)])] == [DECEMBER, NOVEMBER]


def test_closing_a_month_closes_those_before_it_once(acme, other, books, now):
    accounts.open(organization=other, now=now)
    periods.of_instant(Account.objects.get(organization=other), now)
    for instant in (now, FIRST_OF_NOVEMBER, FIRST_OF_NOVEMBER + timedelta(days=30)):
        periods.of_instant(books, instant)
    assert periods.last_closed(acme.pk) is None
    assert periods.open_months(acme.pk) == [OCTOBER, NOVEMBER, DECEMBER]
    first, later = FIRST_OF_NOVEMBER + timedelta(days=30), FIRST_OF_NOVEMBER + timedelta(days=40)
    closed = periods.close(acme.pk, NOVEMBER, now=first)
    assert (closed.month, closed.closed_at) == (NOVEMBER, first)
    assert periods.close(acme.pk, OCTOBER, now=later).closed_at == first
    assert periods.last_closed(acme.pk) == closed
    assert periods.open_months(acme.pk) == [DECEMBER]
    assert periods.open_months(other.pk) == [OCTOBER]
    assert periods.last_closed(other.pk) is None


def test_a_month_can_be_closed_at_the_instant_it_ends_and_not_before(acme, books):
    with pytest.raises(periods.PeriodNotOver, match=r"ends at 2026-11-01 00:00 UTC\.$"):
        periods.close(acme.pk, OCTOBER, now=FIRST_OF_NOVEMBER - INSTANT)
    assert periods.close(acme.pk, OCTOBER, now=FIRST_OF_NOVEMBER).closed_at == FIRST_OF_NOVEMBER


def test_f45_who_moved_has_months_that_neither_overlap_nor_leave_a_gap(acme, books, now):
    periods.of_instant(books, now)
    organizations.change_time_zone(acme, time_zone="America/Los_Angeles")
    periods.close(acme.pk, OCTOBER, now=FIRST_OF_NOVEMBER)
    acme.refresh_from_db()
    assert acme.time_zone == "America/Los_Angeles"
    account = Account.objects.select_related("organization").get(pk=books.pk)
    # Its new clocks show the last evening of October once more: that is November's.
    assert periods.of_instant(account, FIRST_OF_NOVEMBER).month == NOVEMBER
    december = datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert spans_of(acme) == [
        (OCTOBER, "UTC", datetime(2026, 10, 1, tzinfo=UTC), FIRST_OF_NOVEMBER),
        (NOVEMBER, "America/Los_Angeles", FIRST_OF_NOVEMBER, december),
    ]


def test_f45_a_month_opened_between_two_others_ends_where_the_later_one_began(acme, books, now):
    organizations.change_time_zone(acme, time_zone="Asia/Tokyo")
    periods.of_instant(books, datetime(2026, 12, 5, tzinfo=UTC))
    periods.close(acme.pk, OCTOBER, now=FIRST_OF_NOVEMBER)
    account = Account.objects.select_related("organization").get(pk=books.pk)
    assert account.organization.time_zone == "Asia/Tokyo"
    # In Tokyo December has begun, and the December that is there has not.
    evening = datetime(2026, 11, 30, 20, tzinfo=UTC)
    assert periods.of_instant(account, evening).month == NOVEMBER
    [_, november, december] = spans_of(acme)
    assert november == (NOVEMBER, "Asia/Tokyo", FIRST_OF_NOVEMBER, datetime(2026, 12, 1, tzinfo=UTC))
    assert december[2] == november[3]


def test_what_invoices_bill_of_a_month_is_noted_for_that_month_and_organization(acme, other, books, now):
    accounts.open(organization=other, now=now)
    for account in (books, Account.objects.get(organization=other)):
        for instant in (now, FIRST_OF_NOVEMBER):
            periods.of_instant(account, instant)
    assert periods.invoiced(acme.pk, OCTOBER) == periods.invoiced(acme.pk, DECEMBER) == 0
    for organization, month, micros in (
        (other, OCTOBER, 90),
        (acme, NOVEMBER, 30),
        (acme, OCTOBER, 7),
        (acme, OCTOBER, -2),
    ):
        periods.note_invoiced(organization.pk, month, micros)
    assert [periods.invoiced(acme.pk, month) for month in (OCTOBER, NOVEMBER, DECEMBER)] == [5, 30, 0]
    assert [periods.invoiced(other.pk, month) for month in (OCTOBER, NOVEMBER)] == [90, 0]
