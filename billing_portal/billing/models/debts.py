"""What went back of an earlier payment and is billed again."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.billing.models.stripe_objects import Invoice


class DebtLine(models.Model):
    """What a month's invoice bills of a payment that went back: written once, with the line at Stripe to follow.

    All lines of a `source` on invoices that stand come to what is owed of it again; one may be negative, where its
    payment came back after all.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="debt_lines", help_text="Which bills it."
    )
    source = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="+", help_text="Whose payment went back."
    )
    micros = models.BigIntegerField(help_text="Before tax.")
    amount_minor = models.BigIntegerField(help_text="Before tax, as it is billed.")
    basis = models.JSONField(
        default=dict, help_text="What was known of the source then; the receipt says it, for whoever computes it again."
    )
    written_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "invoice", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "invoice", "source"], name="debt_is_one_line_an_invoice_and_source"
            ),
            SameOrganization(field="invoice", name="debt_is_on_its_own_invoice"),
            SameOrganization(field="source", name="debt_is_of_its_own_invoice"),
        ]
        triggers = [pgtrigger.Protect(name="debt_line_is_kept", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"Owed again for {self.source}"
