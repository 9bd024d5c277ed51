"""Who earns a welcome credit, and that nobody earns two."""

import threading
from datetime import timedelta

import pytest
from django.db import connection

from billing_portal.ledger import accounts, balances, credits, settlement, verification, welcome
from billing_portal.ledger.models import Account, Grant, Transaction, WelcomeClaim
from tests.billing import world

pytestmark = pytest.mark.django_db


@pytest.fixture
def open_books(make_organization, now):
    made = iter(range(10**6))

    def make(**fields):
        organization = make_organization(f"org-{next(made)}", **fields)
        accounts.open(organization=organization, now=now)
        return organization

    return make


def give(organization, now, email):
    return welcome.give(organization=organization, email=email, now=now)


def claim(organization, now, fingerprint="fp_1"):
    return welcome.claim_card(organization=organization, fingerprint=fingerprint, now=now)


def test_i06_an_organization_gets_it_once(open_books, now):
    acme = open_books()
    assert give(acme, now, "a@acme.example") == give(acme, now, "b@other.example")
    assert Grant.objects.get().amount_micros == 10_000_000
    assert WelcomeClaim.objects.count() == 1


def test_a_domain_earns_as_many_as_the_setting_allows(open_books, now, settings):
    settings.WELCOME_CREDITS_PER_DOMAIN = 2
    addresses = ["a@acme.example", "b@mail.acme.example", "c@acme.example", "d@ACME.example"]
    given = [give(open_books(), now, address) for address in addresses]
    assert [grant is not None for grant in given] == [True, True, False, False]
    assert give(open_books(), now, "a@other.example") is not None


def test_at_a_free_mail_domain_each_mailbox_counts_by_itself(open_books, now):
    addresses = ["ann@gmail.com", "bob@gmail.com", "a.nn+2@gmail.com", "bob@web.de", '"Ann@home"@gmail.com']
    given = [give(open_books(), now, address) for address in addresses]
    assert [grant is not None for grant in given] == [True, True, False, True, True]
    kept = set(WelcomeClaim.objects.values_list("key", flat=True))
    names = ["ann@gmail.com", "bob@gmail.com", "bob@web.de", '"ann@home"@gmail.com']
    assert kept == {f"mailbox:{name}" for name in names}


@pytest.mark.parametrize(
    ("email", "company"),
    [
        ("a@acme.com", "acme.com"),
        ("a@x.y.acme.com", "acme.com"),
        ("a@acme.co.uk", "acme.co.uk"),
        ("a@mail.acme.com.br", "acme.com.br"),
        ("a@mail.acme.de", "acme.de"),
        ("a@Localhost", "localhost"),
        ("a@uk", "uk"),
        ("a@my.acme.de", "acme.de"),
        ("a@acme.com.", "acme.com"),
        ("a@acme.shop.uk", "shop.uk"),
        ("a@acme.net.uk", "acme.net.uk"),
        ("a@acme.co.info", "co.info"),
        ("a@b@acme.com", "acme.com"),
    ],
)
def test_a_company_is_known_by_the_domain_it_registered(email, company):
    assert welcome.company_of(email) == company


def test_a_currency_without_a_welcome_credit_claims_nothing(open_books, now, settings):
    settings.WELCOME_CREDIT_MICROS = {"USD": 10_000_000}
    assert give(open_books(currency="CHF"), now, "a@acme.example") is None
    assert not WelcomeClaim.objects.exists()


def test_it_expires_after_the_days_that_are_set(open_books, now, settings):
    settings.WELCOME_CREDIT_EXPIRES_AFTER = timedelta(days=30)
    assert give(open_books(), now, "a@acme.example").expires_at == now + timedelta(days=30)


@pytest.mark.django_db(transaction=True)
def test_i13_of_ten_sign_ups_of_a_domain_at_once_as_many_earn_it_as_may(open_books, now, settings):
    settings.WELCOME_CREDITS_PER_DOMAIN = 3
    organizations, start = [open_books() for _ in range(10)], threading.Barrier(10)

    def work(organization):
        start.wait()
        try:
            give(organization, now, "x@acme.example")
        finally:
            connection.close()

    run([threading.Thread(target=work, args=(each,)) for each in organizations])
    assert Grant.objects.count() == 3
    assert WelcomeClaim.objects.values("organization").distinct().count() == 3


def test_a_card_that_earned_another_s_credit_takes_back_what_is_left(open_books, now):
    first, second = open_books(), open_books()
    for organization, email in ((first, "a@one.example"), (second, "a@two.example")):
        give(organization, now, email)
    assert claim(first, now) is None
    assert claim(first, now) is None  # the same card again
    taken = claim(second, now)
    assert taken.reason == welcome.CARD_REASON
    assert balances.balance(Account.objects.get(organization=second), now=now).credit_micros == 0
    assert balances.balance(Account.objects.get(organization=first), now=now).credit_micros == 10_000_000
    assert claim(second, now) is None
    assert list(verification.verify(second.pk)) == []


def test_other_credit_is_no_welcome_credit(open_books, now):
    first, second = open_books(), open_books()
    for organization in (first, second):
        given = {"organization": organization, "kind": Grant.Kind.GOODWILL, "micros": 5, "reference": "g", "now": now}
        goodwill = credits.grant(**given)
        assert claim(organization, now) is None
        assert give(organization, now, f"a@{organization.reference}.example") != goodwill
    assert not WelcomeClaim.objects.filter(key__startswith="card:").exists()
    claim(first, now)
    claim(second, now)
    assert list(Grant.objects.filter(remaining_micros__gt=0).order_by("id").values_list("organization", "kind")) == [
        (first.pk, "goodwill"),
        (first.pk, "welcome"),
        (second.pk, "goodwill"),
    ]


def test_what_was_spent_of_it_stays_free(open_books, now, monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    world.load_prices()
    first, second = open_books(), open_books()
    for organization, email in ((first, "a@one.example"), (second, "a@two.example")):
        give(organization, now, email)
    claim(first, now)
    world.record_calls(second, 5, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(second.pk, now=now)
    left = Grant.objects.get(organization=second).remaining_micros
    assert claim(second, now).entries.get(book="reversed").micros == left < 10_000_000
    assert balances.balance(Account.objects.get(organization=second), now=now).accrued_micros == 0


def test_without_a_welcome_credit_or_a_fingerprint_a_card_claims_nothing(open_books, now):
    acme = open_books()
    assert claim(acme, now) is None
    give(acme, now, "a@acme.example")
    assert claim(acme, now, fingerprint="") is None
    assert not WelcomeClaim.objects.filter(key__startswith="card:").exists()


@pytest.mark.django_db(transaction=True)
def test_i13_of_eight_who_save_one_card_at_once_one_keeps_the_credit(open_books, now):
    organizations, start = [open_books() for _ in range(8)], threading.Barrier(8)
    for number, organization in enumerate(organizations):
        give(organization, now, f"a@company-{number}.example")

    def work(organization):
        start.wait()
        try:
            claim(organization, now)
        finally:
            connection.close()

    run([threading.Thread(target=work, args=(each,)) for each in organizations])
    assert Grant.objects.filter(remaining_micros__gt=0).count() == 1
    assert Transaction.objects.filter(kind="reverse").count() == 7
    kept = Grant.objects.get(remaining_micros__gt=0).organization
    assert WelcomeClaim.objects.get(key="card:fp_1").organization == kept


def run(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
