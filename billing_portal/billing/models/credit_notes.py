"""Credit notes: what a finalized invoice is lowered by, while the invoice itself stays as it is."""

import uuid

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing.models.stripe_objects import Invoice


class CreditNote(models.Model):
    """One credit note: asked for here and made at Stripe by a worker, or made at Stripe and taken over.

    Micros are what was asked for, before tax; minor units are Stripe's. `pre_minor` lowered what was open, `post_minor`
    went back of what was paid: to the card, or to the customer balance.
    """

    class State(models.TextChoices):
        ASKED = "asked", "Being made"
        ISSUED = "issued", "Issued"
        REFUSED = "refused", "Refused by Stripe"
        VOID = "void", "Void"

    class Cause(models.TextChoices):
        STAFF = "staff", "Given by staff"
        DISPUTE = "dispute", "A disputed line"
        CORRECTION = "correction", "A corrected call"
        MISBILLED = "misbilled", "Finalized by Stripe before we were ready"
        STRIPE = "stripe", "Made at Stripe"

    class To(models.TextChoices):
        CARD = "card", "Back to the card"
        BALANCE = "balance", "Off the next invoices"

    # What counts against the invoice: a refused one never took effect, a void one does not any more.
    STANDING = (State.ASKED, State.ISSUED)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="credit_notes")
    reference = models.CharField(max_length=200, help_text="Names the command: asking again is asking once.")
    cause = models.CharField(max_length=16, choices=Cause)
    to = models.CharField(max_length=8, choices=To, default=To.CARD, help_text="Where paid money goes, if it can.")
    reason = models.CharField(max_length=400, help_text="For the customer to read.")
    currency = models.CharField(max_length=3)
    amount_micros = models.BigIntegerField(help_text="Before tax, as it was asked for.")
    net_minor = models.BigIntegerField()
    tax_minor = models.BigIntegerField(default=0)
    total_minor = models.BigIntegerField(help_text="With tax.")
    pre_minor = models.BigIntegerField(default=0, help_text="Taken off what was still to be paid.")
    post_minor = models.BigIntegerField(default=0, help_text="Given back of what was paid.")
    refunded_minor = models.BigIntegerField(default=0, help_text="Of that, to the card.")
    balance_minor = models.BigIntegerField(default=0, help_text="Of that, to the customer balance.")
    state = models.CharField(max_length=16, choices=State, default=State.ASKED)
    failure = models.CharField(max_length=300, blank=True, default="")
    stripe_credit_note_id = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001 - unique
    stripe_refund_ids = models.JSONField(default=list, help_text="The refunds that it stands for.")
    number = models.CharField(max_length=64, blank=True, default="")
    pdf_url = models.URLField(max_length=2000, blank=True, default="")
    asked_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, help_text="When a worker goes on; none once nothing is left to do.")
    issued_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["organization", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="credit_note_is_its_organizations"),
            SameOrganization(field="invoice", name="credit_note_is_of_its_own_invoice"),
            models.UniqueConstraint(fields=["organization", "reference"], name="credit_note_reference_is_unique"),
            models.CheckConstraint(
                condition=models.Q(total_minor__gt=0, net_minor__gte=0, tax_minor__gte=0),
                name="credit_note_amount_is_positive",
            ),
            models.CheckConstraint(
                condition=~models.Q(state__in=["issued", "void"])
                | models.Q(stripe_credit_note_id__isnull=False, issued_at__isnull=False),
                name="credit_note_is_issued_at_stripe",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(due_at__isnull=False), name="credit_note_due"),
        ]
        triggers = [pgtrigger.Protect(name="credit_note_is_kept", operation=pgtrigger.Delete)]

    def __str__(self) -> str:
        return self.number or self.reference
