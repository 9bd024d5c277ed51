"""Our side of what Stripe knows: customers, cards, meters, reports, events, invoices."""

import uuid

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing import card_names
from billing_portal.ledger.models import OFF_THE_INVOICE, Settlement
from usage.models import Billable


def _note_card(name: str, operation: pgtrigger.Operation) -> pgtrigger.Trigger:
    """Keep the ledger's `Account.has_card`, whoever changes a card and however: it decides whether usage goes on."""
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=operation,
        referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
        func="""
        UPDATE ledger_account SET has_card = found.has_card
        FROM (SELECT organization_id, EXISTS (
                  SELECT FROM billing_paymentmethod m
                  WHERE m.organization_id = changed.organization_id AND m.is_default AND m.removed_at IS NULL
              ) AS has_card
              FROM (SELECT DISTINCT organization_id FROM fresh) AS changed) AS found
        WHERE ledger_account.organization_id = found.organization_id
              AND ledger_account.has_card <> found.has_card;
        RETURN NULL;
        """,
    )


class Intent(models.Model):
    """A write to Stripe: committed before it is sent; a lost answer is repeated with the same key (F14, F17)."""

    class State(models.TextChoices):
        PENDING = "pending", "Not sent, or the answer was lost"
        DONE = "done", "Done"
        FAILED = "failed", "Refused by Stripe"
        UNKNOWN = "unknown", "Unknown: the key is too old to tell"

    organization = models.ForeignKey(Organization, null=True, on_delete=models.PROTECT, related_name="+")
    verb = models.CharField(max_length=64)
    reference = models.CharField(max_length=200, unique=True)
    idempotency_key = models.CharField(max_length=255, unique=True)
    params = models.JSONField(default=dict)
    state = models.CharField(max_length=16, choices=State, default=State.PENDING)
    stripe_id = models.CharField(max_length=255, blank=True, default="")
    error = models.JSONField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["created_at"], condition=models.Q(state="pending"), name="intent_pending"),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.reference}"


class Customer(models.Model):
    """The Stripe customer and subscription of one organization. Our own link: metadata can re-point dj-stripe's."""

    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, related_name="customer")
    stripe_customer_id = models.CharField(max_length=255, unique=True)
    stripe_subscription_id = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001 - unique
    subscribed_at = models.DateTimeField(null=True, help_text="Usage before this instant is not billed by Stripe.")
    created_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, help_text="When Stripe said that it is gone there; our books stay.")

    def __str__(self) -> str:
        return self.stripe_customer_id


class PaymentMethod(models.Model):
    """A card or Link account saved for off-session charges, and the mandate its holder accepted."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="payment_methods")
    stripe_payment_method_id = models.CharField(max_length=255, unique=True)
    kind = models.CharField(max_length=24)
    brand = models.CharField(max_length=32, blank=True, default="")
    last4 = models.CharField(max_length=4, blank=True, default="")
    expires_month = models.PositiveSmallIntegerField(null=True)
    expires_year = models.PositiveSmallIntegerField(null=True)
    funding = models.CharField(max_length=16, blank=True, default="")
    fingerprint = models.CharField(max_length=64, blank=True, default="")
    is_default = models.BooleanField(default=False)
    mandate_version = models.CharField(max_length=32, blank=True, default="")
    mandate_text = models.TextField(blank=True, default="")
    mandate_accepted_at = models.DateTimeField(null=True)
    mandate_accepted_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True)
    detached_at = models.DateTimeField(null=True, help_text="When Stripe was told of the removal.")

    class Meta:
        ordering = ["-is_default", "-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="payment_method_is_its_organizations"),
            models.UniqueConstraint(
                fields=["organization"],
                condition=models.Q(is_default=True, removed_at__isnull=True),
                name="payment_method_is_one_default",
            ),
        ]
        triggers = [
            _note_card("account_knows_of_new_cards", pgtrigger.Insert),
            _note_card("account_knows_of_changed_cards", pgtrigger.Update),
        ]

    def __str__(self) -> str:
        return card_names.of(self.brand, self.kind, self.last4)


class CardSetup(models.Model):
    """A card entry in progress: the SetupIntent shown to a person, and the mandate accepted with it."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    stripe_setup_intent_id = models.CharField(max_length=255, unique=True)
    mandate_version = models.CharField(max_length=32)
    mandate_text = models.TextField()
    mandate_accepted_at = models.DateTimeField(null=True)
    mandate_accepted_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    refused_reason = models.CharField(max_length=200, blank=True, default="")
    fingerprint = models.CharField(max_length=64, blank=True, default="", help_text="Of the card tried last.")
    address_mark = models.CharField(max_length=40, blank=True, default="", help_text="Tells addresses apart, no more.")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["fingerprint", "created_at"], name="card_setup_by_card"),
            models.Index(fields=["address_mark", "created_at"], name="card_setup_by_address"),
        ]

    def __str__(self) -> str:
        return self.stripe_setup_intent_id


class Meter(models.Model):
    """The Stripe meter of one component: whole micros, summed."""

    component = models.CharField(max_length=24, choices=Billable, unique=True)
    event_name = models.CharField(max_length=100, unique=True)
    stripe_meter_id = models.CharField(max_length=255, unique=True)
    stripe_product_id = models.CharField(max_length=255)

    def __str__(self) -> str:
        return self.event_name


class MeterPrice(models.Model):
    """One micro of the currency per unit of the meter; never changes, whatever a minute costs."""

    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="prices")
    currency = models.CharField(max_length=3)
    stripe_price_id = models.CharField(max_length=255, unique=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["meter", "currency"], name="meter_price_is_one_a_currency"),
        ]

    def __str__(self) -> str:
        return self.stripe_price_id


class ReportBatch(models.Model):
    """Settlements of one month that are reported together."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    month = models.DateField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="report_batch_is_its_organizations"),
        ]
        indexes = [models.Index(fields=["organization", "month"], name="report_batch_by_month")]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} of {self.organization_id}"


class ReportedSettlement(models.Model):
    """That a settlement is in a batch: its key, so that it is in one."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    settlement = models.OneToOneField(
        Settlement, on_delete=models.PROTECT, db_constraint=False, primary_key=True, related_name="reported"
    )
    batch = models.ForeignKey(ReportBatch, on_delete=models.PROTECT, db_constraint=False, related_name="settlements")

    class Meta:
        constraints = [
            SameOrganization(field="settlement", name="reported_settlement_is_its_own"),
            SameOrganization(field="batch", name="reported_settlement_is_in_its_own_batch"),
        ]

    def __str__(self) -> str:
        return f"{self.settlement_id} in {self.batch_id}"


class Report(models.Model):
    """One Stripe meter event: gross micros of one component. Its `minute_at` is its own for that customer and meter."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        SENDING = "sending", "Sent, answer unknown"
        ACCEPTED = "accepted", "Accepted"
        REJECTED = "rejected", "Rejected"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    batch = models.ForeignKey(ReportBatch, on_delete=models.PROTECT, db_constraint=False, related_name="reports")
    component = models.CharField(max_length=24, choices=Billable)
    micros = models.BigIntegerField()
    identifier = models.CharField(max_length=100, unique=True)
    minute_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    error = models.JSONField(null=True)
    sent_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            SameOrganization(field="batch", name="report_is_of_its_own_batch"),
            models.UniqueConstraint(fields=["organization", "batch", "component"], name="report_is_one_a_component"),
            models.UniqueConstraint(
                fields=["organization", "component", "minute_at"], name="report_has_its_own_minute"
            ),
            models.CheckConstraint(condition=models.Q(micros__gt=0), name="report_is_positive"),
        ]
        indexes = [
            models.Index(
                fields=["organization", "component"],
                condition=~models.Q(state="accepted"),
                name="report_not_accepted",
            ),
        ]

    def __str__(self) -> str:
        return self.identifier


class InboxEvent(models.Model):
    """One Stripe event, stored before it is acted on."""

    class State(models.TextChoices):
        RECEIVED = "received", "Received"
        DONE = "done", "Done"
        IGNORED = "ignored", "No receiver"
        PARKED = "parked", "Parked"

    stripe_event_id = models.CharField(max_length=255, unique=True)
    type = models.CharField(max_length=100)
    api_version = models.CharField(max_length=40, blank=True, default="")
    livemode = models.BooleanField(default=False)
    stripe_customer_id = models.CharField(max_length=255, blank=True, default="")
    object_id = models.CharField(max_length=255, blank=True, default="")
    payload = models.JSONField()
    state = models.CharField(max_length=16, choices=State, default=State.RECEIVED)
    reason = models.CharField(max_length=300, blank=True, default="", help_text="Why it is parked, or failed last.")
    attempts = models.PositiveIntegerField(default=0)
    occurred_at = models.DateTimeField(help_text="Stripe's time of the event.")
    received_at = models.DateTimeField(auto_now_add=True)
    retry_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(state="received"), name="inbox_waiting"),
            models.Index(fields=["stripe_customer_id", "-id"], name="inbox_by_customer"),
            models.Index(fields=["object_id"], name="inbox_by_object"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.stripe_event_id}"


class Invoice(models.Model):
    """Our own state of one Stripe invoice; it moves only forward. Amounts are Stripe's minor units."""

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        OPEN = "open", "Open"
        PAID = "paid", "Paid"
        UNCOLLECTIBLE = "uncollectible", "Uncollectible"
        VOID = "void", "Void"

    # Open may still become any of the later ones; uncollectible may still be paid.
    RANKS = {State.DRAFT: 0, State.OPEN: 1, State.UNCOLLECTIBLE: 2, State.PAID: 3, State.VOID: 3}

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="invoices")
    stripe_invoice_id = models.CharField(max_length=255, unique=True)
    month = models.DateField(null=True, help_text="The month of usage it bills; none for other invoices.")
    number = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=16, choices=State, default=State.DRAFT)
    currency = models.CharField(max_length=3)
    subtotal_minor = models.BigIntegerField(default=0)
    tax_minor = models.BigIntegerField(default=0)
    total_minor = models.BigIntegerField(default=0)
    amount_due_minor = models.BigIntegerField(default=0)
    amount_paid_minor = models.BigIntegerField(default=0)
    pre_credited_minor = models.BigIntegerField(default=0, help_text="By credit notes before it was paid.")
    post_credited_minor = models.BigIntegerField(default=0, help_text="By credit notes after it was paid.")
    starting_balance_minor = models.BigIntegerField(default=0)
    ending_balance_minor = models.BigIntegerField(null=True)
    hosted_invoice_url = models.URLField(max_length=2000, blank=True, default="")
    invoice_pdf_url = models.URLField(max_length=2000, blank=True, default="")
    next_payment_attempt_at = models.DateTimeField(null=True)
    drafted_at = models.DateTimeField()
    finalized_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    credited_at = models.DateTimeField(null=True, help_text="When all credit lines were on.")
    waiting_for = models.CharField(max_length=300, blank=True, default="", help_text="Why a draft cannot go on yet.")

    class Meta:
        ordering = ["-drafted_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="invoice_is_its_organizations"),
            models.UniqueConstraint(
                fields=["organization", "month"],
                condition=models.Q(month__isnull=False) & ~models.Q(state="void"),
                name="invoice_is_one_a_month",
            ),
        ]

    def __str__(self) -> str:
        return self.number or self.stripe_invoice_id

    @property
    def open_minor(self) -> int:
        """Return what is still to be paid of a finalized invoice; nothing of one that ended."""
        if self.state not in {self.State.OPEN, self.State.UNCOLLECTIBLE}:
            return 0
        return max(0, self.amount_due_minor - self.amount_paid_minor)

    @property
    def is_carried_over(self) -> bool:
        """Say whether Stripe marked it paid without a payment: its total went to the customer balance.

        That happens to totals below zero or below Stripe's minimum charge; the next invoice starts with that balance.
        """
        is_billed = self.total_minor != self.pre_credited_minor
        return self.state == self.State.PAID and is_billed and self.amount_due_minor == 0


class InvoiceLine(models.Model):
    """One line of a Stripe invoice, from the paginated endpoint. `kind` says what stands behind it."""

    class Kind(models.TextChoices):
        USAGE = "usage", "Usage"
        CREDIT = "credit", "Credit"
        INTERIM = "interim", "Usage so far"
        DEDUCTION = "deduction", "Already invoiced"
        DEBT = "debt", "Owed again"
        OTHER = "other", "Other"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="lines")
    stripe_line_id = models.CharField(max_length=255)
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    component = models.CharField(max_length=24, choices=Billable, blank=True, default="")
    grant_kind = models.CharField(max_length=16, choices=OFF_THE_INVOICE, blank=True, default="")
    description = models.CharField(max_length=500, blank=True, default="")
    quantity = models.BigIntegerField(null=True)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)

    class Meta:
        ordering = ["invoice", "position"]
        constraints = [
            SameOrganization(field="invoice", name="invoice_line_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization", "invoice", "stripe_line_id"], name="invoice_line_is_one_a_stripe_line"
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="final_lines_stand",
                when=pgtrigger.Before,
                operation=pgtrigger.Update | pgtrigger.Delete,
                func="""
                IF EXISTS (SELECT 1 FROM billing_invoice WHERE id = OLD.invoice_id AND state <> 'draft') THEN
                    RAISE EXCEPTION 'invoice % is final', OLD.invoice_id
                        USING ERRCODE = 'integrity_constraint_violation';
                END IF;
                RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
                """,
            ),
        ]

    def __str__(self) -> str:
        return self.description


class CreditLine(models.Model):
    """Credit put on a draft: one credit kind towards one component, as one negative Stripe invoice item."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="credit_lines")
    grant_kind = models.CharField(max_length=16, choices=OFF_THE_INVOICE)
    component = models.CharField(max_length=24, choices=Billable)
    micros = models.BigIntegerField()
    amount_minor = models.BigIntegerField(help_text="Positive; enters the invoice negative.")
    stripe_invoice_item_id = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        ordering = ["invoice", "id"]
        constraints = [
            SameOrganization(field="invoice", name="credit_line_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization", "invoice", "grant_kind", "component"],
                name="credit_line_is_one_a_kind_and_component",
            ),
            models.CheckConstraint(condition=models.Q(amount_minor__gte=0), name="credit_line_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.grant_kind} {self.component}"
