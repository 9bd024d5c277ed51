"""The making of an organization."""

import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from accounts import signup, terms
from accounts.models import Membership, Organization, TermsAcceptance, User


@pytest.fixture
def register(charlie: User, now: datetime) -> Callable[..., Organization]:
    def call(**fields: object) -> Organization:
        defaults = {
            "user": charlie,
            "name": "Röntgen & Söhne",
            "currency": "EUR",
            "time_zone": "Europe/Berlin",
            "terms_version": "2026-10-01",
            "now": now,
        }
        return signup.register(**{**defaults, **fields})

    return call


Register = Callable[..., Organization]


def test_registering_makes_an_active_organization_with_its_owner(
    register: Register, charlie: User, now: datetime
) -> None:
    organization = register()
    organization.refresh_from_db()
    assert organization.name == "Röntgen & Söhne"
    assert organization.reference == "rontgen-sohne"
    assert organization.currency == "EUR"
    assert organization.time_zone == "Europe/Berlin"
    assert organization.status == Organization.Status.ACTIVE
    assert organization.billing_email == charlie.email
    assert organization.created_at == now
    membership = organization.memberships.get()
    assert (membership.user, membership.role) == (charlie, Membership.Role.OWNER)


def test_registering_keeps_which_terms_were_accepted_when(register: Register, charlie: User, now: datetime) -> None:
    organization = register()
    acceptance = organization.terms_acceptances.get()
    assert (acceptance.user, acceptance.version, acceptance.accepted_at) == (charlie, "2026-10-01", now)
    assert terms.has_accepted(organization=organization, version="2026-10-01")
    assert not terms.has_accepted(organization=organization, version="2027-01-01")


def test_a_double_submit_makes_one_organization(register: Register, now: datetime) -> None:
    token = uuid4()
    first = register(token=token)
    assert register(token=token, name="Typed again", now=now + timedelta(seconds=1)) == first
    assert Organization.objects.count() == 1
    assert TermsAcceptance.objects.count() == 1


def test_another_form_makes_another_organization(register: Register) -> None:
    assert register(token=uuid4()) != register(token=uuid4())


def test_a_token_of_somebody_else_is_refused(register: Register, alice: User) -> None:
    token = uuid4()
    register(token=token)
    with pytest.raises(IntegrityError), transaction.atomic():
        register(user=alice, token=token)


def test_a_taken_name_gets_a_reference_with_a_suffix(register: Register, alice: User) -> None:
    register()
    second = register(user=alice)
    assert re.fullmatch("rontgen-sohne-[a-z2-9]{6}", second.reference)


@pytest.mark.parametrize(("name", "start"), [("株式会社", "organization"), ("x" * 120, "x" * 56)])
def test_any_name_gives_a_reference_that_fits(register: Register, name: str, start: str) -> None:
    first, second = register(name=name), register(name=name)
    assert first.reference == start
    assert second.reference.startswith(f"{start}-")
    assert len(second.reference) <= 64


def test_a_given_reference_is_used_once(register: Register, alice: User) -> None:
    organization = register(reference="globex")
    assert register(reference="globex") == organization
    with pytest.raises(signup.ReferenceTaken, match="globex"):
        register(user=alice, reference="globex")
    assert Organization.objects.count() == 1


def test_an_unknown_time_zone_is_refused(register: Register) -> None:
    with pytest.raises(ValidationError, match="Mars/Olympus"):
        register(time_zone="Mars/Olympus")


@pytest.mark.parametrize("currency", ["usd", "US", "U$D"])
def test_a_currency_is_three_capitals(register: Register, currency: str) -> None:
    with pytest.raises(IntegrityError, match="three_capitals"), transaction.atomic():
        register(currency=currency)


@pytest.mark.django_db(transaction=True)
def test_f27_two_submits_at_once_make_one_organization(register: Register, charlie: User) -> None:
    token = uuid4()
    barrier = threading.Barrier(4)
    made: list[int] = []

    def submit() -> None:
        try:
            barrier.wait()
            made.append(register(token=token).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    assert Membership.objects.count() == 1
