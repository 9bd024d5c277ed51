"""The desk with something on every page: one row at least of each kind it shows."""

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.db import transaction
from django.test import Client

from accounts import api_keys, mfa, people
from accounts.models import Organization, TermsAcceptance, User
from billing_portal.billing import discounts, purchases
from billing_portal.billing.models import (
    BillingDetails,
    BucketOffer,
    BucketRenewal,
    Chargeback,
    CreditNote,
    Customer,
    DetailsAtStripe,
    ExchangeRate,
    FraudWarning,
    InboxEvent,
    Intent,
    Invoice,
    InvoiceLine,
    InvoiceParty,
    InvoiceTax,
    Mismatch,
    Overdue,
    PaymentAttempt,
    PaymentMethod,
    Refund,
    Report,
    ReportBatch,
    TaxId,
    TopUp,
)
from billing_portal.ledger import accounts, bucket_claims, buckets, credits, settlement
from billing_portal.ledger.models import Grant
from tests.billing import world
from tests.conftest import PASSWORD
from usage import ingestion, prices, retell
from usage.backfills import plans, work
from usage.backfills.plans import Wish
from usage.models import Backfill, ImportJob, PriceRate

AUGUST = date(2026, 8, 1)
CALLS_START = datetime(2026, 8, 3, 9, tzinfo=UTC)
SETTLED = datetime(2026, 8, 20, tzinfo=UTC)


@pytest.fixture
def desk(client: Client, db: None) -> Client:
    """A member of the staff, past the second factor."""
    sam = people.admit(email="sam@desk.example", password=PASSWORD, name="Sam Stone", is_staff=True)
    sam.is_superuser = True
    sam.save()
    secret = mfa.new_secret()
    mfa.enroll_totp(sam, secret)
    answer = client.post("/accounts/login/", {"login": sam.email, "password": PASSWORD})
    client.post(answer.url, {"code": mfa.current_code(secret)})
    assert client.get("/staff/").status_code == 200
    return client


@pytest.fixture
def furnished(acme: Organization, alice: User, mirrored: Callable[..., Any]) -> Organization:
    """Acme with calls, books, an invoice, and all that Stripe would know of it."""
    _use(acme)
    _bill(acme)
    _price_anew(acme)
    TermsAcceptance.objects.create(organization=acme, user=alice, version="2026-10-01", accepted_at=SETTLED)
    api_keys.issue(organization=acme, name="Export", scopes=["usage:read"], now=SETTLED)
    customer = {"customer": "cus_acme", "currency": "usd"}
    mirrored("Customer", "cus_acme")
    mirrored("PaymentMethod", "pm_acme", type="card", customer="cus_acme")
    mirrored("SetupIntent", "seti_acme", status="succeeded")
    mirrored("PaymentIntent", "pi_acme", status="succeeded", amount=1234, **customer)
    mirrored("Charge", "ch_acme", status="succeeded", amount=1234, **customer)
    mirrored("Refund", "re_acme", {"charge": "ch_acme"}, status="succeeded", amount=34, currency="usd")
    mirrored("Dispute", "dp_acme", {"charge": "ch_acme"}, status="lost", amount=34, currency="usd")
    mirrored("Invoice", "in_acme", {"customer": "cus_acme"}, status="paid", total=1234, **customer)
    mirrored("Subscription", "sub_acme", {"customer": "cus_acme"}, status="active", **customer)
    mirrored("Product", "prod_acme", name="Voice engine", type="service")
    mirrored(
        "Price",
        "price_acme",
        {"product": "prod_acme"},
        currency="usd",
        product="prod_acme",
        type="recurring",
        active=True,
    )
    return acme


def _use(acme: Organization) -> None:
    world.load_prices()
    accounts.open(organization=acme, now=CALLS_START)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=1_000_000, reference="welcome", now=CALLS_START)
    world.record_calls(acme, 20, starts_at=CALLS_START, now=SETTLED)
    settlement.settle_all(acme.pk, now=SETTLED)
    unknown = (
        b'{"call_id": "call_strange", "organization": "acme", "call_type": "web_call", "call_status": "ended",'
        b' "start_timestamp": "2026-08-03T10:00:00Z", "duration_ms": 1000, "products": ["gpt_99"]}'
    )
    assert ingestion.record([unknown], now=SETTLED)[0].rated is False
    foreign = b'{"event": "call_analyzed", "call": {"call_id": "call_of_nobody", "call_type": "web_call"}}'
    assert retell.hold(foreign, now=SETTLED, organization="nobody")
    assert retell.record_due(now=SETTLED) == 1
    ImportJob.objects.create(
        organization=acme,
        asked_at=SETTLED,
        name="calls-of-july.csv.gz",
        size_bytes=7_000_000,
        bytes_done=4_000_000,
        items_done=41_203,
        recorded=41_190,
        duplicates=10,
        rejected=3,
        state="recording",
    )


def _price_anew(acme: Organization) -> Backfill:
    """Count what the calls of August's first days would cost by prices that were entered since."""
    tenths = {"llm": 15, "voice": 8}
    listed = PriceRate.objects.filter(version__book__is_default=True, version__book__currency="USD").order_by("id")
    rates = [
        {
            "component": each.component,
            "product": each.product,
            "unit": each.unit,
            "rate": str(Decimal(each.rate_micros * tenths.get(each.component, 10) // 10) / 1_000_000),
        }
        for each in listed
    ]
    version = {"number": 1, "starts_at": SETTLED, "rates": rates}
    book = {"reference": "restated", "name": "Restated", "currency": "USD", "versions": [version]}
    (made,) = prices.load({"books": [book]}, now=SETTLED)
    days = {"starts_on": date(2026, 8, 1), "ends_on": date(2026, 8, 5)}
    wish = Wish(made, reason="Language models were billed at last month's price", **days)
    backfill = plans.ask(wish, public_id=uuid.uuid4(), by=User.objects.earliest("id"), now=SETTLED)
    while work.go_on(now=SETTLED):
        pass
    return backfill


def _bill(acme: Organization) -> None:
    Customer.objects.create(
        organization=acme, stripe_customer_id="cus_acme", stripe_subscription_id="sub_acme", created_at=SETTLED
    )
    PaymentMethod.objects.create(
        organization=acme,
        stripe_payment_method_id="pm_acme",
        kind="card",
        brand="visa",
        last4="4242",
        created_at=SETTLED,
    )
    Intent.objects.create(verb="invoices.finalize", reference="finalize:1", idempotency_key="key-1", created_at=SETTLED)
    InboxEvent.objects.create(
        stripe_event_id="evt_1", type="invoice.paid", object_id="in_acme", payload={}, occurred_at=SETTLED
    )
    batch = ReportBatch.objects.create(organization=acme, month=AUGUST, created_at=SETTLED)
    Report.objects.create(organization=acme, batch=batch, component="voice", micros=5, identifier="report-1")
    invoice = Invoice.objects.create(
        organization=acme,
        stripe_invoice_id="in_acme",
        month=AUGUST,
        number="ACME-0001",
        currency="JPY",
        total_minor=1234,
        drafted_at=SETTLED,
    )
    InvoiceLine.objects.create(
        organization=acme,
        invoice=invoice,
        stripe_line_id="il_1",
        position=1,
        kind="usage",
        component="voice",
        amount_minor=1234,
        currency="JPY",
    )
    _discount(acme)
    ExchangeRate.objects.create(base="USD", quote="JPY", quote_micros=150_200_000, as_of=AUGUST, source="ECB")
    _tax(acme, invoice)
    _claim(acme, invoice)
    _differ(acme, invoice)
    PaymentAttempt.objects.create(
        organization=acme,
        invoice=invoice,
        stripe_charge_id="ch_declined",
        state="failed",
        amount_minor=1234,
        currency="JPY",
        attempted_at=SETTLED,
    )
    Overdue.objects.create(
        organization=acme, invoice=invoice, failed_at=SETTLED, stops_at=SETTLED, told=Overdue.Told.STOPPED
    )
    _buy(acme)


def _discount(acme: Organization) -> None:
    """A discount, and what it has taken off August so far."""
    terms = {"percent_hundredths": 1_250, "amount_micros": None, "first_month": AUGUST, "months": None}
    discounts.enter(organization=acme, **terms, reason="Launch partner", reference="staff:1", now=SETTLED)
    with transaction.atomic():
        discounts.apply(accounts.lock(acme.pk), AUGUST, now=SETTLED)


def _tax(acme: Organization, invoice: Invoice) -> None:
    """Whom the invoice is made out to, and its tax."""
    details = BillingDetails.objects.create(
        organization=acme, version=1, legal_name="Acme K.K.", region="Tokyo", country="JP", made_at=SETTLED
    )
    DetailsAtStripe.objects.create(organization=acme, details=details, location="supported")
    TaxId.objects.create(
        organization=acme, type="jp_trn", value="T8700110005901", country="JP", state="refused", added_at=SETTLED
    )
    InvoiceParty.objects.create(
        organization=acme,
        invoice=invoice,
        details=details,
        name="Acme K.K.",
        address={"country": "JP"},
        stored_at=SETTLED,
    )
    InvoiceTax.objects.create(
        organization=acme,
        invoice=invoice,
        position=1,
        country="JP",
        name="JCT",
        percent=10,
        reason="standard_rated",
        net_minor=1122,
        tax_minor=112,
    )


def _claim(acme: Organization, invoice: Invoice) -> None:
    """What went back of an invoice, and what is claimed of it."""
    of_invoice = {"organization": acme, "invoice": invoice}
    CreditNote.objects.create(
        **of_invoice,
        reference="n1",
        cause="staff",
        reason="Outage",
        currency="JPY",
        amount_micros=5_000_000,
        net_minor=5,
        total_minor=5,
        asked_at=SETTLED,
    )
    Refund.objects.create(
        **of_invoice, stripe_refund_id="re_acme", currency="JPY", amount_minor=5, state="succeeded", made_at=SETTLED
    )
    Chargeback.objects.create(
        **of_invoice,
        stripe_dispute_id="du_acme",
        stripe_charge_id="ch_acme",
        currency="JPY",
        amount_minor=1234,
        reason="fraudulent",
        status="needs_response",
        state="open",
        opened_at=SETTLED,
    )
    FraudWarning.objects.create(
        **of_invoice, stripe_warning_id="issfr_acme", stripe_charge_id="ch_acme", fraud_type="misc", warned_at=SETTLED
    )


def _differ(acme: Organization, invoice: Invoice) -> None:
    Mismatch.objects.create(
        organization=acme,
        invoice=invoice,
        level="total",
        subject="sum of the lines",
        cause="missing_event",
        owner="portal",
        text="A line is missing or changed.",
        currency="JPY",
        amount_micros=1_000_000,
        found_at=SETTLED,
        seen_at=SETTLED,
    )


def _buy(acme: Organization) -> None:
    offer = BucketOffer.objects.create(
        code="resolutions-1000",
        currency="USD",
        outcomes=["resolution"],
        size=1000,
        price_micros=890_000_000,
        starts_at=SETTLED,
        created_at=SETTLED,
    )
    terms = buckets.Terms(("resolution",), 1000, 890_000_000, SETTLED, SETTLED + timedelta(days=365))
    bucket = buckets.add(acme.pk, terms, reference="bucket", now=SETTLED)
    bucket_claims.follow(
        bucket=bucket, paid_micros=890_000_000, claimed_micros=0, held_micros=89_000_000, reason="Disputed", now=SETTLED
    )
    BucketRenewal.objects.create(
        organization=acme,
        bucket=bucket,
        offer=offer,
        mandate_version="2026-11",
        mandate_text="I authorize.",
        accepted_by=acme.users.get(),
        accepted_at=SETTLED,
    )
    order = TopUp.objects.create(
        organization=acme,
        currency=acme.currency,
        threshold_micros=0,
        amount_micros=50_000_000,
        ceiling_micros=50_000_000,
        accepted_by=User.objects.earliest("id"),
        accepted_at=SETTLED,
    )
    purchases.ask_for_top_up(order, now=SETTLED)


@pytest.fixture
def mirrored(db: None) -> Callable[..., Any]:
    """Return a maker of rows of the mirror."""

    def make(kind: str, stripe_id: str, references: dict[str, str] | None = None, **fields: Any) -> Any:
        stripe_ids = references or {}
        data = {"id": stripe_id, "object": kind.lower(), "livemode": False, **fields}
        model = apps.get_model("djstripe", kind)
        values = {name: fields[name] for name in _columns(model) if name in fields}
        values |= {f"{name}_id": stripe_ids[name] for name in stripe_ids}
        return model.objects.create(id=stripe_id, livemode=False, created=SETTLED, stripe_data=data, **values)

    return make


def _columns(model: Any) -> list[str]:
    return [field.name for field in model._meta.get_fields() if field.concrete and not field.is_relation]
