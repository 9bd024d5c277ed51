"""Money of a payment that went back or is claimed: refunds, chargebacks, and what issuers warn of."""

from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing.models.stripe_objects import Invoice


class InvoicePayment(models.Model):
    """Which invoice a PaymentIntent paid: dj-stripe does not keep it, refunds and disputes name the payment only."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="payments")
    stripe_payment_intent_id = models.CharField(max_length=255, unique=True)

    class Meta:
        ordering = ["organization", "id"]
        constraints = [SameOrganization(field="invoice", name="invoice_payment_is_of_its_own_invoice")]

    def __str__(self) -> str:
        return self.stripe_payment_intent_id


class Refund(models.Model):
    """One refund as Stripe tells it. Its identity is Stripe's id, so two partial ones are two (F2)."""

    class State(models.TextChoices):
        PENDING = "pending", "On its way"
        SUCCEEDED = "succeeded", "Refunded"
        FAILED = "failed", "Failed"
        CANCELED = "canceled", "Canceled"

    # Money counts as gone from the moment it leaves; a bank may still send it back.
    RANKS = {State.PENDING: 0, State.SUCCEEDED: 1, State.FAILED: 2, State.CANCELED: 2}
    GONE = (State.PENDING, State.SUCCEEDED)

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="refunds")
    stripe_refund_id = models.CharField(max_length=255, unique=True)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    state = models.CharField(max_length=16, choices=State, default=State.PENDING)
    failure = models.CharField(max_length=100, blank=True, default="")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "id"]
        constraints = [
            SameOrganization(field="invoice", name="refund_is_of_its_own_invoice"),
            models.CheckConstraint(condition=models.Q(amount_minor__gt=0), name="refund_amount_is_positive"),
        ]

    def __str__(self) -> str:
        return self.stripe_refund_id


class Chargeback(models.Model):
    """One dispute of a charge, as its cardholder opened it at their bank. Its state moves only forward."""

    class State(models.TextChoices):
        INQUIRY = "inquiry", "Inquiry"
        OPEN = "open", "Open"
        WON = "won", "Won"
        LOST = "lost", "Lost"

    RANKS = {State.INQUIRY: 0, State.OPEN: 1, State.WON: 2, State.LOST: 2}

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="chargebacks")
    stripe_dispute_id = models.CharField(max_length=255, unique=True)
    stripe_charge_id = models.CharField(max_length=255)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    reason = models.CharField(max_length=64, blank=True, default="", help_text="The bank's.")
    status = models.CharField(max_length=40, help_text="Stripe's own.")
    state = models.CharField(max_length=16, choices=State)
    evidence_due_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["organization", "id"]
        constraints = [SameOrganization(field="invoice", name="chargeback_is_of_its_own_invoice")]
        indexes = [
            models.Index(
                fields=["evidence_due_at"], condition=models.Q(state__in=["inquiry", "open"]), name="chargeback_waiting"
            ),
        ]

    def __str__(self) -> str:
        return self.stripe_dispute_id


class FraudWarning(models.Model):
    """What a card's issuer reported as fraud, before there is a chargeback: staff refund it, or let it be."""

    class State(models.TextChoices):
        OPEN = "open", "To be looked at"
        DISMISSED = "dismissed", "Let be"
        SETTLED = "settled", "Refunded or charged back"

    RANKS = {State.OPEN: 0, State.DISMISSED: 1, State.SETTLED: 2}

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="fraud_warnings")
    stripe_warning_id = models.CharField(max_length=255, unique=True)
    stripe_charge_id = models.CharField(max_length=255)
    fraud_type = models.CharField(max_length=64, blank=True, default="")
    holds_credit = models.BooleanField(default=False, help_text="By the setting when it came.")
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    warned_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["organization", "id"]
        constraints = [SameOrganization(field="invoice", name="fraud_warning_is_of_its_own_invoice")]
        indexes = [models.Index(fields=["id"], condition=models.Q(state="open"), name="fraud_warning_open")]

    def __str__(self) -> str:
        return self.stripe_warning_id
