"""What an invoice's amount due was found to be for."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.billing.models.stripe_objects import Invoice


class AmountDue(models.Model):
    """The amount due of one final invoice by one grouping, as `amounts_due.compute` found it; it never changes."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    grouping = models.CharField(max_length=16)
    key = models.CharField(max_length=128, blank=True, default="", help_text="Of metadata, where it is grouped by one.")
    rows = models.JSONField()
    computed_at = models.DateTimeField()

    class Meta:
        constraints = [
            SameOrganization(field="invoice", name="amount_due_is_of_its_own_invoice"),
            models.UniqueConstraint(
                fields=["organization", "invoice", "grouping", "key"], name="amount_due_is_one_a_grouping"
            ),
        ]
        triggers = [pgtrigger.Protect(name="amount_due_stands", operation=pgtrigger.Update)]

    def __str__(self) -> str:
        return f"{self.invoice} by {self.grouping} {self.key}".strip()
