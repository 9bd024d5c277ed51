"""Acceptance of terms as evidence."""

from datetime import datetime, timedelta

import pytest
from django.db import ProgrammingError, transaction

from accounts import terms
from accounts.models import Organization, TermsAcceptance, User


def test_accepting_again_keeps_the_first_instant(charlie: User, now: datetime) -> None:
    first = terms.accept(user=charlie, version="1", now=now)
    assert terms.accept(user=charlie, version="1", now=now + timedelta(days=1)) == first
    assert TermsAcceptance.objects.get().accepted_at == now


def test_a_person_and_an_organization_are_bound_separately(acme: Organization, alice: User, now: datetime) -> None:
    terms.accept(user=alice, version="1", now=now)
    assert not terms.has_accepted(organization=acme, version="1")
    terms.accept(user=alice, organization=acme, version="1", now=now)
    assert terms.has_accepted(organization=acme, version="1")
    assert TermsAcceptance.objects.count() == 2


def test_an_acceptance_can_be_neither_changed_nor_deleted(charlie: User, now: datetime) -> None:
    acceptance = terms.accept(user=charlie, version="1", now=now)
    with pytest.raises(ProgrammingError), transaction.atomic():
        TermsAcceptance.objects.update(version="2")
    with pytest.raises(ProgrammingError), transaction.atomic():
        acceptance.delete()
    assert TermsAcceptance.objects.get().version == "1"
