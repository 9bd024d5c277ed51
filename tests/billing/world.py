"""What the tests of billing live in: a month, customers of the sandbox, settlements, calls."""

import random
import tomllib
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from accounts.models import Organization, User
from billing_portal.billing import card_records, customers, gateway, invoices
from billing_portal.billing.models import Customer, Invoice, PaymentMethod
from billing_portal.ledger import balances, settlement
from billing_portal.ledger.models import Account, Settlement, SettlementLine
from usage import ingestion, prices

MONTH = date(2027, 2, 1)
MIDMONTH = datetime(2027, 2, 10, 9, 30, tzinfo=UTC)
ANCHOR = datetime(2027, 3, 1, 12, tzinfo=UTC)
CLOSING = ANCHOR + timedelta(minutes=10)


def subscribe(organization: Organization, *, card: str | None, now: datetime) -> Customer:
    """Make the organization a customer with a default card and a subscription to every meter."""
    customer = customers.subscribe(organization, now=now)
    if card:
        stripe_id = customer.stripe_customer_id
        attached = gateway.act("payment_methods", "attach", card, {"customer": stripe_id}, f"{stripe_id}-card")
        default = {"invoice_settings": {"default_payment_method": attached["id"]}}
        gateway.update("customers", stripe_id, default, f"{stripe_id}-default")
    return customer


@dataclass
class Buyer:
    """An organization that may buy credit: its owner, and the card that is the default."""

    organization: Organization
    owner: User
    card: PaymentMethod | None

    @property
    def credit_micros(self) -> int:
        account = Account.objects.get(organization=self.organization)
        return balances.balance(account, now=MIDMONTH).credit_micros


def save_card(organization: Organization, card: str, *, now: datetime) -> PaymentMethod:
    """Save one of Stripe's test cards as the default, as if it had been entered."""
    stripe_id = Customer.objects.get(organization=organization).stripe_customer_id
    params = {"customer": stripe_id}
    details = gateway.act("payment_methods", "attach", card, params, f"{stripe_id}-{uuid.uuid4()}")
    method = card_records.store(organization, details, now=now, setup=None)
    card_records.choose(method)
    card_records.agree_on_default(organization, now=now)
    method.refresh_from_db()
    return method


def settled(organization: Organization, micros: dict[str, int], *, month: date = MONTH) -> Settlement:
    """Write what a settlement of one charge leaves behind, without the charge."""
    account = Account.objects.get(organization=organization)
    account.last_sequence += 1
    account.save(update_fields=["last_sequence"])
    settlement = Settlement.objects.create(
        organization=organization,
        month=month,
        first_sequence=account.last_sequence,
        last_sequence=account.last_sequence,
        gross_micros=sum(micros.values()),
        accrued_micros=sum(micros.values()),
        settled_at=MIDMONTH,
    )
    SettlementLine.objects.bulk_create(
        SettlementLine(
            organization=organization,
            settlement=settlement,
            component=component,
            gross_micros=gross,
            accrued_micros=gross,
        )
        for component, gross in micros.items()
    )
    return settlement


def load_prices() -> None:
    """Put the sample company's list prices in force, long ago."""
    path = Path(prices.__file__).parent / "price_books" / "parley.toml"
    prices.load(tomllib.loads(path.read_text()), now=datetime(2024, 1, 1, tzinfo=UTC))


def record_calls(organization: Organization, count: int, *, starts_at: datetime, now: datetime, seed: int = 1) -> None:
    """Record `count` calls of a few products, a minute apart, with ids that begin with the seed."""
    rng = random.Random(seed)
    items = []
    for number in range(count):
        start = starts_at + timedelta(minutes=number)
        duration_ms = rng.randrange(0, 600_000)
        items.append(
            msgspec.json.encode(
                {
                    "call_id": f"call_{seed}_{number}",
                    "organization": organization.reference,
                    "call_type": "phone_call",
                    "call_status": "ended",
                    "start_timestamp": int(start.timestamp() * 1000),
                    "end_timestamp": int(start.timestamp() * 1000) + duration_ms,
                    "duration_ms": duration_ms,
                    "products": ["platform", "elevenlabs_tts", "gpt_4o_mini"],
                    "add_ons": rng.sample(["background_voice_cancellation", "post_call_analysis_gpt_4o"], k=number % 3),
                    "llm_token_usage": {"average": rng.randrange(500, 9_000), "num_requests": 4},
                }
            )
        )
    for batch in (items[i : i + 1000] for i in range(0, len(items), 1000)):
        answers = ingestion.record(batch, now=now)
        assert {answer.status for answer in answers} == {"recorded"}, answers[:3]


def invoice_of(organization: Organization, *, month: date = MONTH, now: datetime = ANCHOR) -> Invoice:
    """Take over the month's draft from Stripe, as its webhook would."""
    customer = Customer.objects.get(organization=organization)
    drafts = [
        invoices.receive(found, now=now)
        for found in gateway.list_all("invoices", {"customer": customer.stripe_customer_id})
    ]
    return next(invoice for invoice in drafts if invoice.month == month)


def use(organization: Organization, calls: int, *, seed: int, starts_at: datetime = MIDMONTH) -> int:
    """Record calls and settle them, twelve hours later; return what is accrued in all months together."""
    now = starts_at + timedelta(hours=12)
    record_calls(organization, calls, starts_at=starts_at, now=now, seed=seed)
    settlement.settle_all(organization.pk, now=now)
    return balances.balance(Account.objects.get(organization=organization), now=now).accrued_micros
