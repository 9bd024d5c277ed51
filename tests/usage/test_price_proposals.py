"""Proposed prices: previewed on the last full month to the micro, decided by a second person, entered, taken back."""

import time
import uuid
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from accounts import people
from billing_portal.ledger import accounts, settlement
from tests.usage.conftest import priced, record  # noqa: F401 - fixtures
from tests.usage.test_changes import some
from usage import price_documents, price_impacts, price_proposals, price_texts, prices, proposing, rating
from usage.models import Call, PriceBook, PriceProposal, PriceRate, PriceVersion, ProductMix
from usage.rating import CallFacts

pytestmark = pytest.mark.django_db
SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
DECEMBER = "2026-12-01T00:00:00+00:00"


@pytest.fixture
def sam(db):
    return people.admit(email="sam@desk.example", password="x", name="Sam Stone", is_staff=True)


@pytest.fixture
def tess(db):
    return people.admit(email="tess@desk.example", password="x", name="Tess Tern", is_staff=True)


@pytest.fixture
def september(acme, record, priced):  # noqa: F811
    """Acme's September: calls of two mixes, some with many tokens, some of less than a minimum."""
    accounts.open(organization=acme, now=SEPTEMBER)
    at = SEPTEMBER + timedelta(days=19)
    tokens = {"llm_token_usage": {"average": 9_000, "num_requests": 3}}
    record(
        *some(date(2026, 9, 5), 7, **tokens),
        *some(date(2026, 9, 6), 3, ms=4_321),
        *some(date(2026, 9, 7), 5, ms=61_234, products=("platform", "gpt_5", "branded_call", "openai_tts")),
        now=at,
    )
    settlement.settle_all(acme.pk, now=at)
    return acme


def as_priced(version=None, **rates):
    """Return the document of a version with the same prices, but for the given rates; None takes a product out."""
    version = version or PriceVersion.objects.get(book__reference="parley-usd", number=1)
    entries = [
        {
            "product": rate.product,
            "component": rate.component,
            "unit": rate.unit,
            "rate": rates.get(rate.product, f"{rate.rate_micros / 10**6:.6f}"),
            "label": rate.label,
            "minimum_ms": rate.minimum_ms,
            "increment_ms": rate.increment_ms,
        }
        for rate in version.rates.order_by("id")
    ]
    return {
        "starts_at": DECEMBER,
        "token_threshold": 3500,
        "rates": [each for each in entries if each["rate"] is not None],
    }


def propose(by, now, document=None, **changes):
    fields = {"reason": "Voices cost us more", "public_id": uuid.uuid4(), "by": by, "now": now, **changes}
    book = PriceBook.objects.get(reference="parley-usd")
    proposal = price_proposals.propose(book=book, document=document or as_priced(), **fields)
    return price_impacts.run(proposal.pk, clock=time.monotonic) or proposal


def entered(by, approver, now, document=None):
    proposal = propose(by, now, document)
    price_proposals.ask(proposal.public_id, by=by, now=now)
    return price_proposals.approve(proposal.public_id, by=approver, now=now)


def one_by_one(organization, snapshot):
    """Return the calls of the organization as `rating.rate` prices each by a snapshot, by component."""
    mixes, sums = {mix.pk: mix for mix in ProductMix.objects.all()}, Counter()
    for call in Call.objects.filter(organization=organization):
        facts = CallFacts(call.duration_ms, tuple(mixes[call.mix_id].products), call.llm_tokens, call.llm_requests)
        for line in rating.rate(facts, snapshot).lines:
            sums[line.component] += line.micros
    return {component: micros for component, micros in sums.items() if micros}


def test_i06_the_same_prices_again_change_nothing_to_the_micro(september, sam, now):
    proposal = propose(sam, now)
    (impact,) = proposal.impacts.all()
    assert (proposal.state, proposal.month, impact.calls, impact.kept_calls) == ("previewed", SEPTEMBER.date(), 15, 0)
    assert (impact.change_micros, impact.before) == (0, impact.after)
    assert impact.before_micros > 0
    assert proposal.summary["alike"] == proposal.summary["organizations"] == 1


def test_a_preview_equals_every_call_rated_one_by_one(september, sam, now):
    document = as_priced(elevenlabs_tts="0.081", gpt_5="0.035", platform="0.0051") | {"token_threshold": 2000}
    proposal = propose(sam, now, document)
    (impact,) = proposal.impacts.all()
    assert impact.after == one_by_one(september, price_impacts.proposed(proposal))
    assert impact.after_micros == sum(impact.after.values()) != impact.before_micros
    verdict = "dearer" if impact.change_micros > 0 else "cheaper"
    assert proposal.summary[verdict] == 1
    changes = price_texts.rate_changes(prices.snapshot_for(september, now), price_impacts.proposed(proposal))
    assert [(each.label, each.before_micros, each.after_micros) for each in changes] == [
        ("Platform", 5_000, 5_100),
        ("ElevenLabs", 70_000, 81_000),
        ("GPT-5", 40_000, 35_000),
    ]


def test_calls_whose_product_gets_no_price_are_counted_and_stay_as_charged(september, sam, now):
    (impact,) = propose(sam, now, as_priced(branded_call=None)).impacts.all()
    assert (impact.kept_calls, impact.change_micros) == (5, 0)


def test_an_organization_with_prices_of_its_own_is_not_concerned(september, make_organization, sam, now):
    own = {"reference": "own", "name": "Own", "currency": "USD", "organization": "acme"}
    version = {"number": 1, "starts_at": datetime(2026, 10, 1, tzinfo=UTC), "rates": as_priced()["rates"]}
    prices.load({"books": [{**own, "versions": [version]}]}, now=now - timedelta(days=30))
    proposal = propose(sam, now)
    assert not proposal.impacts.exists()
    assert proposal.summary["calls" if "calls" in proposal.summary else "before"] in ({}, 0)
    assert list(price_impacts.payers_of(PriceBook.objects.get(reference="own"), at=now)) == [september]


def test_a_second_person_enters_it_and_calls_from_then_on_cost_that(september, sam, tess, now):
    proposal = propose(sam, now, as_priced(elevenlabs_tts="0.08"))
    with pytest.raises(proposing.NotOpen):
        price_proposals.approve(proposal.public_id, by=tess, now=now)
    price_proposals.ask(proposal.public_id, by=sam, now=now)
    with pytest.raises(proposing.SamePerson):
        price_proposals.approve(proposal.public_id, by=sam, now=now)
    for _ in range(2):
        done = price_proposals.approve(proposal.public_id, by=tess, now=now)
    assert (done.version.number, done.version.starts_at.isoformat()) == (2, DECEMBER)
    starts_at = done.version.starts_at
    rates = [
        prices.snapshot_for(september, at).rates["elevenlabs_tts"].rate_micros
        for at in (starts_at - timedelta(microseconds=1), starts_at)
    ]
    assert rates == [70_000, 80_000]


def test_entered_prices_are_taken_back_before_they_start_unless_something_rests_on_them(september, sam, tess, now):
    proposal = entered(sam, tess, now, as_priced(elevenlabs_tts="0.08"))
    soon = proposal.starts_at - proposing.LAST_TAKEN_BACK
    with pytest.raises(proposing.TooLate):
        price_proposals.revoke(proposal.public_id, by=tess, reason="x", now=soon)
    for _ in range(2):
        revoked = price_proposals.revoke(proposal.public_id, by=tess, reason="The date was wrong.", now=now)
    assert (revoked.state, revoked.version) == ("revoked", None)
    assert PriceVersion.objects.filter(book__reference="parley-usd").count() == 1
    assert not PriceRate.objects.filter(version__number=2).exists()
    assert prices.snapshot_for(september, revoked.starts_at).rates["elevenlabs_tts"].rate_micros == 70_000


def test_a_document_without_sense_is_refused_by_its_place_and_nothing_is_kept(september, sam, now):
    for change, path in (
        ({"rates": []}, "rates"),
        ({"starts_at": "2026-12-01T00:00:00"}, "starts_at"),
        ({"rates": [{"product": "x", "component": "voice", "unit": "minute", "rate": "0.0000001"}]}, "rates[0].rate"),
        ({"free_ms": -1}, "free_ms"),
    ):
        with pytest.raises(price_documents.PriceDocumentInvalid) as refused:
            propose(sam, now, as_priced() | change)
        assert refused.value.path == path
    with pytest.raises(proposing.StartPassed):
        propose(sam, now, as_priced() | {"starts_at": SEPTEMBER.isoformat()})
    assert not PriceProposal.objects.exists()


def test_a_preview_that_nobody_makes_is_taken_up_and_made_once(september, sam, now):
    book = PriceBook.objects.get(reference="parley-usd")
    proposal = price_proposals.propose(
        book=book, document=as_priced(), reason="r", public_id=uuid.uuid4(), by=sam, now=now
    )
    assert price_impacts.abandoned(10) == [proposal.pk]
    assert price_impacts.run(proposal.pk, clock=time.monotonic, seconds=0).state == "previewing"
    assert price_impacts.run(proposal.pk, clock=time.monotonic).state == "previewed"
    assert (price_impacts.abandoned(10), price_impacts.run(proposal.pk, clock=time.monotonic)) == ([], None)
