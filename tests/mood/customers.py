"""The customers of a world: what they do on which day, and what they do about it when it fails."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import msgspec

from accounts.models import Organization, User
from billing_portal.billing import (
    bucket_sales,
    card_records,
    charging,
    credit_notes,
    customers,
    gateway,
    overdue_walk,
    purchases,
    top_up_orders,
    top_ups,
)
from billing_portal.billing.models import BucketOffer, CreditNote, Invoice, Overdue, PaymentMethod, Purchase
from billing_portal.ledger import accounts, credits
from billing_portal.ledger.models import Grant
from tests.conftest import PASSWORD, join
from tests.mood.plan import CORRECTS_ON, USES_AGAIN_ON, USES_ON, Plan
from tests.mood.world import World, surely
from usage import ingestion
from usage.outcomes import recording

DOLLAR = 1_000_000
BUYS_ON, PAYS_FROM, DISPUTES_ON, IS_REFUNDED_ON, EVIDENCE_ON, IS_CREDITED_ON = 3, 4, 9, 10, 13, 16
VISA, DISPUTED, FAILING = "pm_card_visa", "pm_card_createDispute", "pm_card_chargeCustomerFail"
_NEEDS_A_NEW_CARD = {"expired_card", "lost_card", "stolen_card", "authentication_required"}


@dataclass
class Wish:
    """Something that is bought ahead, however often it takes: credit, or a bucket where there is no amount."""

    micros: int = 0
    card: str = VISA


@dataclass
class Customer:
    """One customer, its cards at hand, and what it still wants."""

    plan: Plan
    organization: Organization
    owner: User
    cards: dict[str, PaymentMethod] = field(default_factory=dict)
    wishes: list[Wish] = field(default_factory=list)
    entered: int = 0

    # ── Beginning ─────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def sign_up(cls, plan: Plan, world: World) -> "Customer":
        owner = User.objects.create_user(f"owner@{plan.reference}.example", PASSWORD, name="Olivia Owner")
        organization = Organization.objects.create(
            reference=plan.reference, name=plan.reference, currency="USD", time_zone="UTC", created_at=world.now
        )
        join(organization, owner, "owner")
        accounts.open(organization=organization, now=world.now)
        limit = 5 * DOLLAR if plan.does("calls much") else 500 * DOLLAR
        accounts.limit_arrears(organization.pk, micros=limit)
        welcome = {"kind": Grant.Kind.WELCOME, "micros": 2 * DOLLAR, "reference": "welcome", "now": world.now}
        credits.grant(organization=organization, **welcome)
        surely(lambda: customers.subscribe(organization, now=world.now))
        found = cls(plan, organization, owner)
        found.enter_cards(world)
        return found

    def enter_cards(self, world: World) -> None:
        if self.plan.does("pays by hand"):
            self.enter(FAILING, world)
        self.enter(VISA, world)
        if self.plan.does("pays by hand") or self.plan.does("disputes credit"):
            self.enter(DISPUTED, world)
        default = self.cards[FAILING if self.plan.does("pays by hand") else VISA]
        card_records.choose(default)
        surely(lambda: card_records.agree_on_default(self.organization, now=world.now))

    def enter(self, card: str, world: World) -> None:
        """Enter a card as if on the form; the same number again is another card at Stripe, and replaces it here."""
        self.entered += 1
        stripe_id = self.organization.customer.stripe_customer_id
        key = f"{self.plan.reference}-card-{self.entered}"
        details = surely(lambda: gateway.act("payment_methods", "attach", card, {"customer": stripe_id}, key))
        self.cards[card] = card_records.store(self.organization, details, now=world.now, setup=None)

    # ── Days ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def live(self, month: date, day: int, number: int, world: World) -> None:
        """Do what is planned for a day of the month, which is the `number`th."""
        plan = self.plan
        if day == BUYS_ON and plan.does("buys") and number % 2 == 0:
            self.wishes.append(Wish(25 * DOLLAR))
        if day == BUYS_ON and plan.does("buys a bucket") and number == 0:
            self.wishes.append(Wish())
        if day == DISPUTES_ON and plan.does("disputes credit") and number % 2:
            self.wishes.append(Wish(25 * DOLLAR, DISPUTED))
        if day == IS_REFUNDED_ON and plan.does("is refunded") and number % 2 == 0:
            self._is_refunded(number)
        if day == EVIDENCE_ON:
            self._is_judged(number)
        if day == IS_CREDITED_ON and plan.does("is credited") and number:
            self._is_credited(world.now)

    def see_to_it(self, day: int, number: int, world: World) -> None:
        """Do about what failed what a customer would: ask again, enter another card, pay by hand."""
        self._buy(world)
        if self.plan.does("tops up") and day >= BUYS_ON:
            self._keep_topping_up(world)
        if self.plan.does("pays by hand"):
            if day >= PAYS_FROM:
                self._pay(f"{number}-{day}", self.cards[DISPUTED if number % 3 == 1 else VISA], world)
            return
        for overdue in Overdue.objects.filter(organization=self.organization, ended_at=None):
            attempt = overdue_walk.last_decline(overdue.invoice)
            if attempt and {attempt.failure_code, attempt.decline_code} & _NEEDS_A_NEW_CARD:
                self._replace_card(world)
            if overdue.invoice.next_payment_attempt_at is None:
                self._pay(f"{number}-{day}", self.cards[VISA], world)

    def _buy(self, world: World) -> None:
        bought = Purchase.objects.filter(organization=self.organization, origin=Purchase.Origin.PERSON)
        done = bought.filter(state=Purchase.State.CREDITED).count()
        if done == len(self.wishes) or bought.filter(state__in=[*Purchase.OPEN, Purchase.State.PAID]).exists():
            return
        wish = self.wishes[done]
        card_records.choose(self.cards[wish.card])
        asked: dict[str, Any] = {
            "organization": self.organization,
            "user": self.owner,
            "way": Purchase.Way.CARD,
            "key": purchases.next_key(self.organization),
            "payment_method": self.cards[wish.card],
            "now": world.now,
        }
        if wish.micros:
            purchases.ask(micros=wish.micros, currency="USD", **asked)
        else:
            bucket_sales.ask(offer=BucketOffer.objects.get(code="resolutions-1000", currency="USD"), **asked)
        card_records.choose(self.cards[VISA])

    def _keep_topping_up(self, world: World) -> None:
        """Have credit bought when it runs low; once that was switched off by a declined card, with another one."""
        if top_up_orders.in_force(self.organization) is not None:
            return
        if top_up_orders.latest(self.organization) is not None:
            self._replace_card(world)
        amounts = {"threshold_micros": 5 * DOLLAR, "amount_micros": 10 * DOLLAR, "ceiling_micros": 500 * DOLLAR}
        top_ups.switch_on(organization=self.organization, user=self.owner, now=world.now, **amounts)

    def _replace_card(self, world: World) -> None:
        self.enter(VISA, world)
        card_records.choose(self.cards[VISA])
        surely(lambda: card_records.agree_on_default(self.organization, now=world.now))

    def _pay(self, key: str, card: PaymentMethod, world: World) -> None:
        unpaid = Invoice.objects.filter(organization=self.organization, state=Invoice.State.OPEN, month__isnull=False)
        for invoice in unpaid:
            try:
                surely(lambda: charging.pay_now(invoice, key=key, now=world.now, method=card))  # noqa: B023
            except charging.PaymentRefused:
                continue  # tomorrow again

    # ── What others do ────────────────────────────────────────────────────────────────────────────────────────────

    def _is_refunded(self, number: int) -> None:
        """Somebody at the vendor's gives a fifth back at Stripe's dashboard."""
        newest = Purchase.objects.filter(organization=self.organization, state=Purchase.State.CREDITED).latest("id")
        (payment,) = gateway.list_all("invoice_payments", {"invoice": newest.invoice.stripe_invoice_id})
        params = {"payment_intent": payment["payment"]["payment_intent"], "amount": 500}
        surely(lambda: gateway.create("refunds", params, f"{self.plan.reference}-refund-{number}"))

    def _is_judged(self, number: int) -> None:
        """The bank decides what is disputed: every other time for the vendor."""
        if not (self.plan.does("disputes credit") or self.plan.does("pays by hand")):
            return
        verdict = "winning_evidence" if number % 4 == 3 else "losing_evidence"
        mine = {
            charge["id"]
            for charge in gateway.list_all("charges", {"customer": self.organization.customer.stripe_customer_id})
        }
        for dispute in list(gateway.list_all("disputes")):
            if dispute["charge"] in mine and dispute["status"] == "needs_response":
                told = {"evidence": {"uncategorized_text": verdict}}
                key = f"{dispute['id']}-evidence"
                surely(lambda: gateway.update("disputes", dispute["id"], told, key))  # noqa: B023

    def _is_credited(self, now: datetime) -> None:
        invoice = Invoice.objects.filter(organization=self.organization, month__isnull=False).exclude(
            state=Invoice.State.DRAFT
        )
        newest = invoice.latest("month")
        credit_notes.ask(
            invoice=newest,
            micros=DOLLAR // 2,
            reason="Calls dropped last month",
            reference=f"gesture:{newest.month}",
            cause=CreditNote.Cause.STAFF,
            now=now,
        )


def use(everyone: list[Customer], month: date, day: int, now: datetime) -> None:
    """Record what all customers' agents did until noon: calls, corrections, events of conversations."""
    if day not in {USES_ON, USES_AGAIN_ON, CORRECTS_ON}:
        return
    for each in everyone:
        plan = each.plan
        calls = list(plan.corrections(month)) if day == CORRECTS_ON else plan.calls(month, day)
        told = [msgspec.json.encode(call) for call in calls]
        assert {answer.status for answer in ingestion.record(told, now=now)} <= {"recorded"}
        events = [msgspec.json.encode(event) for event in plan.events(month, day)]
        assert {answer.status for answer in recording.record(events, now=now)} <= {"recorded"}
