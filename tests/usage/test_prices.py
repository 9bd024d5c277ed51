import copy
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import DatabaseError, transaction
from hypothesis import given
from hypothesis import strategies as st

from tests.charged import the_charge
from tests.usage.conftest import call_object
from usage import price_documents, prices
from usage.models import Call, PriceBook, PriceRate, PriceVersion
from usage.price_documents import PriceDocumentInvalid

PARLEY = Path(prices.__file__).parent / "price_books" / "parley.toml"
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def book(*, reference="list-usd", starts_at=LONG_AGO, number=1, rate="0.06", **fields):
    rates = [{"product": "platform", "component": "platform", "unit": "minute", "rate": rate}]
    version = {"number": number, "starts_at": starts_at, "rates": rates}
    return {"reference": reference, "name": "Prices", "currency": "USD", "versions": [version], **fields}


def document(*books):
    return {"books": list(books)}


def load(now, *books):
    return prices.load(document(*books), now=now)


@pytest.mark.django_db
def test_i06_loading_twice_changes_nothing(now):
    parsed = tomllib.loads(PARLEY.read_text())
    assert len(prices.load(parsed, now=now)) == 2
    before = list(PriceRate.objects.values_list())
    assert prices.load(parsed, now=now) == []
    assert list(PriceRate.objects.values_list()) == before


@pytest.mark.django_db
def test_an_organizations_own_book_comes_before_the_public_one(now, acme, other):
    load(now, book(default=True), book(reference="acme-own", organization="acme", rate="0.03"))
    assert prices.snapshot_for(acme, now).book == "acme-own"
    assert prices.snapshot_for(other, now).book == "list-usd"
    assert prices.snapshot_for(acme, LONG_AGO - timedelta(seconds=1)) is None


@pytest.mark.django_db
def test_before_its_own_book_starts_an_organization_pays_list_prices(now, acme):
    load(now, book(default=True), book(reference="acme-own", organization="acme", starts_at=now))
    assert prices.snapshot_for(acme, now - timedelta(microseconds=1)).book == "list-usd"
    assert prices.snapshot_for(acme, now).book == "acme-own"


@pytest.mark.django_db
def test_a_currency_without_a_book_has_no_price(now, make_organization):
    load(now, book(default=True))
    assert prices.snapshot_for(make_organization("tokyo", currency="JPY"), now) is None
    assert prices.currencies() == ["USD"]


@pytest.mark.django_db
def test_a_new_version_prices_from_its_start_on_and_is_seen_at_once(now, acme):
    load(now, book(default=True))
    assert prices.snapshot_for(acme, now).number == 1
    starts_at = now + timedelta(hours=1)
    load(now, book(default=True, number=2, starts_at=starts_at, rate="0.12"))
    assert prices.snapshot_for(acme, starts_at - timedelta(microseconds=1)).number == 1
    assert prices.snapshot_for(acme, starts_at).rates["platform"].rate_micros == 120_000


@pytest.mark.django_db
def test_prices_that_were_rolled_back_are_not_remembered(now, acme):
    load(now, book(default=True))

    class Undone(Exception):
        pass

    with pytest.raises(Undone), transaction.atomic():
        load(now, book(default=True, number=2, starts_at=now - timedelta(days=1), rate="0.12"))
        assert prices.snapshot_for(acme, now).number == 2
        raise Undone
    assert prices.snapshot_for(acme, now).number == 1


@pytest.mark.django_db
def test_a_version_in_force_is_not_edited(now):
    load(now, book(default=True))
    with pytest.raises(prices.VersionInForce):
        load(now, book(default=True, rate="0.07"))


@pytest.mark.django_db
def test_a_version_that_is_not_in_force_yet_is_edited(now):
    starts_at = now + timedelta(days=1)
    load(now, book(default=True, starts_at=starts_at))
    (changed,) = load(now, book(default=True, starts_at=starts_at, rate="0.07"))
    assert changed.rates.get().rate_micros == 70_000


@pytest.mark.django_db
def test_a_book_that_priced_calls_takes_no_version_from_the_past(now, acme, record):
    load(now, book(default=True))
    record(call_object(products=["platform"]))
    with pytest.raises(prices.VersionBackdated):
        load(now, book(default=True, number=2, starts_at=now - timedelta(days=1)))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        lambda: PriceVersion.objects.update(grace_ms=1),
        lambda: PriceVersion.objects.update(starts_at=LONG_AGO + timedelta(days=1)),
        lambda: PriceRate.objects.update(rate_micros=1),
        lambda: PriceRate.objects.all().delete(),
        lambda: PriceRate.objects.create(
            version=PriceVersion.objects.get(), component="voice", product="new", unit="minute", rate_micros=1
        ),
    ],
)
def test_the_database_keeps_a_version_that_charges_rest_on(change, now, acme, record):
    load(now, book(default=True))
    record(call_object(products=["platform"]))
    with pytest.raises(DatabaseError), transaction.atomic():
        change()
    assert the_charge().amount_micros == 97_000


@pytest.mark.django_db
def test_a_book_with_an_error_leaves_nothing_of_the_document(now):
    with pytest.raises(PriceDocumentInvalid) as raised:
        load(now, book(default=True), book(reference="x", organization="nobody"))
    assert raised.value.path == "books[1].organization"
    assert not PriceBook.objects.exists()


def _set(path, value):
    def change(parsed):
        *way, last = path
        for step in way:
            parsed = parsed[step]
        parsed[last] = value

    return change


VERSION = ("books", 0, "versions", 0)
RATE = (*VERSION, "rates", 0)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (_set(("books",), []), "books"),
        (_set(("books", 0, "currency"), "usd"), "books[0].currency"),
        (_set(("books", 0, "unknown"), 1), "books[0]"),
        (_set((*VERSION, "starts_at"), LONG_AGO.replace(tzinfo=None)), "books[0].versions[0].starts_at"),
        (_set((*VERSION, "grace_ms"), -1), "books[0].versions[0].grace_ms"),
        (_set((*VERSION, "number"), 0), "books[0].versions[0].number"),
        (_set((*RATE, "rate"), 0.06), "books[0].versions[0].rates[0].rate"),
        (_set((*RATE, "rate"), "0.0000001"), "books[0].versions[0].rates[0].rate"),
        (_set((*RATE, "rate"), "-1"), "books[0].versions[0].rates[0].rate"),
        (_set((*RATE, "rate"), "NaN"), "books[0].versions[0].rates[0].rate"),
        (_set((*RATE, "rate"), "1e300"), "books[0].versions[0].rates[0].rate"),
        (_set((*RATE, "rate"), "six"), "books[0].versions[0].rates[0].rate"),
        (_set((*RATE, "increment_ms"), 0), "books[0].versions[0].rates[0].increment_ms"),
        (_set((*RATE, "component"), "coffee"), "books[0].versions[0].rates[0].component"),
        (_set((*RATE, "unit"), "surcharge"), "books[0].versions[0].rates[0].unit"),
    ],
)
def test_what_is_wrong_in_a_document_is_named_by_its_place(change, path):
    parsed = copy.deepcopy(document(book(default=True)))
    change(parsed)
    with pytest.raises(PriceDocumentInvalid) as raised:
        price_documents.read(parsed)
    assert raised.value.path == path


@given(st.integers(0, price_documents.MAX_RATE_MICROS))
def test_a_rate_is_read_to_the_micro(micros):
    text = f"{micros // 1_000_000}.{micros % 1_000_000:06}"
    entry = price_documents.RateEntry(product="p", component="platform", unit="minute", rate=text)
    assert entry.rate_micros == micros


@pytest.mark.django_db
def test_every_component_of_the_sample_book_has_a_price(now, priced):
    components = set(PriceRate.objects.filter(version__book__currency="USD").values_list("component", flat=True))
    assert components == {"platform", "voice", "llm", "telephony", "add_on", "per_call", "token_surcharge"}
    assert not Call.objects.exists()
