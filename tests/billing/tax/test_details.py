"""Addresses and tax ids on their way to Stripe and back."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from accounts import organizations
from billing_portal.billing import customers, gateway, inbox
from billing_portal.billing.models import BillingDetails, Customer, DetailsAtStripe, Intent, TaxId
from billing_portal.billing.tax import automatic, details, tax_ids
from billing_portal.billing.tax.id_formats import TaxIdRefused
from tests.billing.tax.places import BERLIN, NOWHERE, PARIS, live

VAT = "DE136695976"


def at_stripe(organization):
    return gateway.retrieve("customers", organization.customer.stripe_customer_id, expand=["tax"])


def webhooks(stripe, *types):
    for event in stripe.dump()["events"]:
        if event["type"] in types:
            inbox.record(event)
    inbox.handle_waiting(now=stripe.now())
    assert not inbox.waiting(10, stripe.now())


def add(organization, value=VAT, *, now, country="DE", type_="eu_vat"):
    owner = organization.users.first()
    tax_id = tax_ids.add(organization, user=owner, country=country, type_=type_, value=value, now=now)
    return tax_ids.send(tax_id, now=now)


def test_a_change_is_a_version_and_reaches_stripe_once(stripe, acme):
    now = stripe.now()
    first = live(acme, BERLIN, now=now, purchase_order="PO-1")
    assert live(acme, BERLIN, now=now, purchase_order="PO-1") == first
    assert Intent.objects.filter(verb="update customer").count() == 1
    second = live(acme, PARIS, now=now, legal_name="Acme SARL")
    assert (first.version, second.version) == (1, 2)
    found = at_stripe(acme)
    assert (found["name"], found["address"]["city"], found["address"]["country"]) == ("Acme SARL", "Paris", "FR")
    known = details.at_stripe(acme)
    assert (known.details, known.location, known.refused) == (second, "supported", None)
    # What was, stays as it was.
    with pytest.raises(DatabaseError, match="Cannot update"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE billing_billingdetails SET city = 'Bonn' WHERE id = %s", [first.pk])


def test_f14_a_lost_answer_is_repaired_by_the_sweep(stripe, acme):
    now = stripe.now()
    customers.ensure(acme, now=now)
    stripe.faults(fail_next={"path": "/v1/customers/", "method": "POST", "when": "after"})
    live(acme, BERLIN, now=now)
    assert details.at_stripe(acme).details is None
    later = live(acme, PARIS, now=now)
    assert at_stripe(acme)["address"]["city"] == "Paris"
    assert details.at_stripe(acme).details == later
    organizations.change_recipients(acme, emails=["bills@acme.example", "cfo@acme.example"])
    assert details.send_waiting(now=now) == 1
    assert at_stripe(acme)["email"] == "bills@acme.example"
    assert details.send_waiting(now=now) == 0


def test_a_place_that_stripe_does_not_find_is_said_and_not_asked_again(stripe, acme):
    now = stripe.now()
    live(acme, BERLIN, now=now)
    live(acme, NOWHERE, now=now)
    known = details.at_stripe(acme)
    assert (known.refused.city, known.details.city) == ("Nirgendheim", "Berlin")
    assert "location" in known.failure
    assert details.send_waiting(now=now) == 0
    live(acme, PARIS, now=now)
    assert (details.at_stripe(acme).refused, details.at_stripe(acme).failure) == (None, "")


def test_what_is_entered_at_stripe_comes_back_as_a_version(stripe, acme):
    now = stripe.now()
    live(acme, BERLIN, now=now, purchase_order="PO-1")
    moved = {"name": "Acme SA", "address": {"line1": "2 rue", "city": "Lyon", "postal_code": "69001", "country": "FR"}}
    gateway.update("customers", acme.customer.stripe_customer_id, moved, "moved")
    webhooks(stripe, "customer.updated")
    newest = details.current(acme)
    assert (newest.version, newest.origin, newest.city, newest.purchase_order) == (2, "stripe", "Lyon", "PO-1")
    assert (details.send_waiting(now=now), details.send_waiting(now=now)) == (1, 0)
    assert details.at_stripe(acme).location == "supported"
    # What is entered here and still on its way is the later word.
    address = {"country": "DE", "line1": "1", "line2": "", "city": "Bonn", "region": "", "postal_code": "53113"}
    details.change(acme, user=None, legal_name="Acme", address=address, now=now)
    details.receive(at_stripe(acme), now=now)
    assert (details.current(acme).version, details.current(acme).city) == (3, "Bonn")


def test_tax_is_switched_on_for_the_subscription_once_there_is_a_place(stripe, subscribed):
    acme = subscribed("acme")
    live(acme, NOWHERE, now=stripe.now())
    assert not customers.is_taxed(acme.customer)
    live(acme, BERLIN, now=stripe.now())
    assert customers.is_taxed(acme.customer)
    automatic.switch_on_missing(now=stripe.now())
    assert Intent.objects.filter(verb="switch on automatic tax").count() == 1


def test_a_subscription_that_comes_later_is_taxed_by_the_sweep(stripe, acme):
    live(acme, BERLIN, now=stripe.now())
    customers.subscribe(acme, now=stripe.now())
    automatic.switch_on_missing(now=stripe.now())
    assert customers.is_taxed(Customer.objects.get())


@pytest.mark.parametrize(
    ("value", "status"), [(VAT, "verified"), ("DE111111111", "unverified"), ("DE222222222", "pending")]
)
def test_what_the_register_says_of_a_tax_id_is_shown(stripe, acme, monkeypatch, value, status):
    monkeypatch.setattr(tax_ids.id_formats, "check", lambda country, type_, given: given)  # Stripe's numbers for tests
    live(acme, BERLIN, now=stripe.now())
    tax_id = add(acme, value, now=stripe.now())
    assert (tax_id.state, tax_id.verification) == ("held", "pending")
    stripe.advance_to(stripe.now().timestamp() + 10)
    webhooks(stripe, "customer.tax_id.created", "customer.tax_id.updated")
    tax_id.refresh_from_db()
    assert (tax_id.verification, bool(tax_id.verified_name)) == (status, status == "verified")
    # The webhook may be lost.
    TaxId.objects.update(verification="pending")
    assert tax_ids.look_again(now=stripe.now()) == (status != "pending")


def test_a_tax_id_is_given_to_stripe_once_and_taken_away(stripe, acme):
    now = stripe.now()
    customer = customers.ensure(acme, now=now)
    stripe.faults(fail_next={"path": "/tax_ids", "method": "POST", "when": "after"})
    with pytest.raises(gateway.Unavailable):
        add(acme, now=now)
    webhooks(stripe, "customer.tax_id.created")
    assert tax_ids.send_waiting(now=now) == 0
    tax_id = add(acme, "de 136695976", now=now)
    assert (TaxId.objects.count(), tax_id.state) == (1, "held")
    with pytest.raises(TaxIdRefused):
        add(acme, "DE136695977", now=now)
    tax_ids.remove(tax_id, user=acme.users.first(), now=now)
    with pytest.raises(TaxIdRefused, match="being removed"):
        add(acme, now=now)
    assert tax_ids.send_waiting(now=now) == 1
    assert list(gateway.list_tax_ids(customer.stripe_customer_id)) == []
    tax_id.refresh_from_db()
    assert (tax_id.state, tax_id.deleted_at) == ("removed", now)
    again = add(acme, now=now + timedelta(minutes=1))
    assert (again.state, again.pk != tax_id.pk) == ("held", True)


def test_what_is_added_and_removed_at_stripe_is_followed(stripe, acme):
    customer = customers.ensure(acme, now=stripe.now())
    made = gateway.create_tax_id(customer.stripe_customer_id, {"type": "us_ein", "value": "91-1144442"}, "key")
    webhooks(stripe, "customer.tax_id.created")
    assert (tax_ids.of(acme).get().value, tax_ids.of(acme).get().verification) == ("91-1144442", "unavailable")
    gateway.delete_tax_id(customer.stripe_customer_id, made["id"], {}, "gone")
    webhooks(stripe, "customer.tax_id.deleted")
    assert not tax_ids.of(acme).exists()
    assert BillingDetails.objects.count() == DetailsAtStripe.objects.count() == 0
