"""Usage that is invoiced before its month ends."""

import uuid

import pgtrigger
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeOperators
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.billing.models.stripe_objects import Invoice
from billing_portal.ledger.models import Transaction
from usage.models import Billable

_COVERED = models.Func(models.F("first_sequence"), models.F("last_sequence") + 1, function="int8range")


class InterimInvoice(models.Model):
    """An invoice for what settlements of one month accrued so far. What it bills comes off the month's own invoice.

    It covers the settlements of its month between two sequence numbers, both included, and no two that stand cover the
    same one (I4). Open from when it is written until it is paid, or void and so never billed.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        PAID = "paid", "Paid"
        VOID = "void", "Void"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    month = models.DateField()
    first_sequence = models.BigIntegerField()
    last_sequence = models.BigIntegerField()
    last_transaction = models.ForeignKey(
        Transaction,
        on_delete=models.PROTECT,
        db_constraint=False,
        related_name="+",
        help_text="The last in the books it was written from.",
    )
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    invoice = models.OneToOneField(
        Invoice, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="interim"
    )
    waiting_for = models.CharField(max_length=300, blank=True, default="", help_text="Why it is not finalized yet.")
    written_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["organization", "month", "first_sequence", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="interim_invoice_is_its_organizations"),
            SameOrganization(field="last_transaction", name="interim_invoice_ends_with_its_own"),
            SameOrganization(field="invoice", name="interim_invoice_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(state="open"), name="interim_invoice_is_one_open"
            ),
            models.CheckConstraint(
                condition=models.Q(last_sequence__gte=models.F("first_sequence")), name="interim_invoice_is_a_range"
            ),
            models.CheckConstraint(
                condition=~models.Q(state="paid") | models.Q(invoice__isnull=False),
                name="interim_invoice_is_paid_by_an_invoice",
            ),
            models.CheckConstraint(
                condition=models.Q(state="open", ended_at=None) | (~models.Q(state="open") & ~models.Q(ended_at=None)),
                name="interim_invoice_is_open_or_ended",
            ),
            ExclusionConstraint(
                name="interim_invoices_cover_once",
                expressions=[
                    ("organization", RangeOperators.EQUAL),
                    ("month", RangeOperators.EQUAL),
                    (_COVERED, RangeOperators.OVERLAPS),
                ],
                condition=~models.Q(state="void"),
            ),
        ]
        indexes = [models.Index(fields=["organization", "month"], name="interim_invoice_by_month")]

    def __str__(self) -> str:
        return str(self.invoice) if self.invoice else f"{self.month:%Y-%m} of {self.organization_id}, interim"


class InterimLine(models.Model):
    """One component of an interim invoice: what it accrued since the last one, and what is billed for that.

    Negative where what earlier ones billed was forgiven since, or the rounding of its parts went down.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    interim = models.ForeignKey(InterimInvoice, on_delete=models.PROTECT, db_constraint=False, related_name="lines")
    component = models.CharField(max_length=24, choices=Billable)
    micros = models.BigIntegerField()
    amount_minor = models.BigIntegerField()

    class Meta:
        ordering = ["interim", "id"]
        constraints = [
            SameOrganization(field="interim", name="interim_line_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization", "interim", "component"], name="interim_line_is_one_a_component"
            ),
        ]
        triggers = [pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.component} {self.amount_minor}"
