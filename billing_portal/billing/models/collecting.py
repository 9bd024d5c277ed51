"""What becomes of charges: every attempt on a card, and the invoices whose payment failed."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.billing import card_names
from billing_portal.billing.models.stripe_objects import Invoice


def _note_deadline(name: str, operation: pgtrigger.Operation) -> pgtrigger.Trigger:
    """Keep the ledger's `Account.unpaid_stops_at`, whoever changes an overdue invoice and however."""
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=operation,
        referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
        func="""
        UPDATE ledger_account SET unpaid_stops_at = found.stops_at
        FROM (SELECT organization_id, (
                  SELECT min(o.stops_at) FROM billing_overdue o
                  WHERE o.organization_id = changed.organization_id AND o.ended_at IS NULL
              ) AS stops_at
              FROM (SELECT DISTINCT organization_id FROM fresh) AS changed) AS found
        WHERE ledger_account.organization_id = found.organization_id
              AND ledger_account.unpaid_stops_at IS DISTINCT FROM found.stops_at;
        RETURN NULL;
        """,
    )


class PaymentAttempt(models.Model):
    """One charge at Stripe, taken or refused: what the bank and Radar said. Amounts are Stripe's minor units."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(
        Invoice, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="payment_attempts"
    )
    stripe_charge_id = models.CharField(max_length=255, unique=True)
    stripe_payment_intent_id = models.CharField(max_length=255, blank=True, default="")
    state = models.CharField(max_length=16, choices=State)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    kind = models.CharField(max_length=24, blank=True, default="", help_text="Of payment method: card, link.")
    brand = models.CharField(max_length=32, blank=True, default="")
    last4 = models.CharField(max_length=4, blank=True, default="")
    funding = models.CharField(max_length=16, blank=True, default="")
    fingerprint = models.CharField(max_length=64, blank=True, default="")
    failure_code = models.CharField(max_length=64, blank=True, default="")
    decline_code = models.CharField(max_length=64, blank=True, default="")
    outcome = models.CharField(max_length=32, blank=True, default="", help_text="authorized, issuer_declined, blocked")
    risk_level = models.CharField(max_length=32, blank=True, default="")
    risk_score = models.PositiveSmallIntegerField(null=True)
    seller_message = models.CharField(max_length=300, blank=True, default="", help_text="Stripe's words, for staff.")
    attempted_at = models.DateTimeField()

    class Meta:
        ordering = ["-attempted_at", "-id"]
        constraints = [SameOrganization(field="invoice", name="payment_attempt_is_of_its_own_invoice")]
        indexes = [
            models.Index(fields=["organization", "-attempted_at"], name="payment_attempt_by_time"),
            models.Index(fields=["attempted_at"], name="payment_attempt_by_month"),
        ]

    def __str__(self) -> str:
        return f"{self.stripe_charge_id} {self.state}"

    @property
    def card(self) -> str:
        """Return the card as people know it."""
        return card_names.of(self.brand, self.kind, self.last4)


class Overdue(models.Model):
    """An invoice of usage whose payment failed: until it ends, usage stops at `stops_at`. One an invoice.

    `told` is the last letter that was written, `attempts_read` how many attempts were looked up at Stripe.
    """

    class Told(models.IntegerChoices):
        NOTHING = 0, "Nothing"
        FAILED = 1, "That it failed"
        FAILED_AGAIN = 2, "That it failed again"
        STOPS_SOON = 3, "That usage stops soon"
        STOPPED = 4, "That usage is stopped"
        ENDED = 5, "That it is over"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.OneToOneField(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="overdue")
    failed_at = models.DateTimeField()
    stops_at = models.DateTimeField(help_text="From when usage stops, unless it is paid.")
    attempts = models.PositiveIntegerField(default=1, help_text="As Stripe's schedule of retries counts them.")
    attempts_read = models.PositiveIntegerField(default=0)
    asks_owner = models.BooleanField(default=False, help_text="The bank wants the card's owner to confirm.")
    told = models.PositiveSmallIntegerField(choices=Told, default=Told.NOTHING)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        verbose_name = "overdue invoice"
        constraints = [
            SameOrganization(field="invoice", name="overdue_is_of_its_own_invoice"),
            models.CheckConstraint(
                condition=models.Q(stops_at__gte=models.F("failed_at")), name="overdue_stops_after_it_failed"
            ),
        ]
        indexes = [
            models.Index(fields=["organization"], condition=models.Q(ended_at=None), name="overdue_open"),
            models.Index(fields=["stops_at"], condition=models.Q(told__lt=5), name="overdue_to_be_told"),
        ]
        triggers = [
            _note_deadline("account_knows_of_new_overdue", pgtrigger.Insert),
            _note_deadline("account_knows_of_changed_overdue", pgtrigger.Update),
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id} since {self.failed_at:%Y-%m-%d}"
