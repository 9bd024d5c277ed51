"""Suspension and the change of a time zone."""

import pytest
from django.core.exceptions import ValidationError

from accounts import organizations
from accounts.models import Organization

Status = Organization.Status


def test_a_suspended_organization_can_be_reinstated(acme: Organization) -> None:
    for _ in range(2):
        organizations.suspend(acme)
        assert acme.status == Organization.objects.get(pk=acme.pk).status == Status.SUSPENDED
    for _ in range(2):
        organizations.reinstate(acme)
        assert acme.status == Organization.objects.get(pk=acme.pk).status == Status.ACTIVE


@pytest.mark.parametrize("verb", [organizations.suspend, organizations.reinstate])
def test_a_closed_organization_stays_closed(acme: Organization, verb: object) -> None:
    Organization.objects.update(status=Status.CLOSED)
    with pytest.raises(organizations.OrganizationClosed):
        verb(acme)  # type: ignore[operator]
    acme.refresh_from_db()
    assert acme.status == Status.CLOSED


def test_a_change_of_time_zone_waits_for_the_next_period(acme: Organization) -> None:
    organizations.change_time_zone(acme, time_zone="Asia/Tokyo")
    acme.refresh_from_db()
    assert (acme.time_zone, acme.next_time_zone) == ("UTC", "Asia/Tokyo")
    organizations.adopt_time_zone(acme)
    assert (acme.time_zone, acme.next_time_zone) == ("Asia/Tokyo", "")
    organizations.adopt_time_zone(acme)
    acme.refresh_from_db()
    assert (acme.time_zone, acme.next_time_zone) == ("Asia/Tokyo", "")


def test_choosing_the_present_zone_withdraws_the_change(acme: Organization) -> None:
    organizations.change_time_zone(acme, time_zone="Asia/Tokyo")
    organizations.change_time_zone(acme, time_zone="UTC")
    organizations.adopt_time_zone(acme)
    acme.refresh_from_db()
    assert (acme.time_zone, acme.next_time_zone) == ("UTC", "")


def test_an_unknown_time_zone_is_refused(acme: Organization) -> None:
    with pytest.raises(ValidationError):
        organizations.change_time_zone(acme, time_zone="Mars/Olympus")
