"""What discounts took off a month's usage that credit did not pay."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.ledger.models.books import Grant, Transaction
from usage.models import Billable

_INSERT_ONLY = pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)

# What comes off a month's invoice: credit by its kind, and discounts. They are rounded in this order.
DISCOUNT = "discount"
OFF_THE_INVOICE = [*sorted(Grant.Kind.choices, key=lambda kind: Grant.PRIORITIES[Grant.Kind(kind[0])])]
OFF_THE_INVOICE.append((DISCOUNT, "Discount"))


class DiscountPosting(models.Model):
    """One change of what discounts take off a month, with the terms by which it was computed, as they were then."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    transaction = models.OneToOneField(
        Transaction, on_delete=models.PROTECT, db_constraint=False, related_name="discount_posting"
    )
    month = models.DateField(help_text="First day of the month.")
    terms = models.JSONField(help_text="[name, hundredths of a per cent or null, minor units or null], in their order.")

    class Meta:
        ordering = ["organization", "month", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="discount_posting_is_its_organizations"),
            SameOrganization(field="transaction", name="discount_posting_is_of_its_own_transaction"),
        ]
        indexes = [models.Index(fields=["organization", "month"], name="discount_posting_by_month")]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return f"discounts of {self.month:%Y-%m}"


class DiscountLine(models.Model):
    """By how much more, or less, one discount takes off one component than before."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    posting = models.ForeignKey(DiscountPosting, on_delete=models.PROTECT, db_constraint=False, related_name="lines")
    discount = models.CharField(max_length=64, help_text="What names the discount.")
    component = models.CharField(max_length=24, choices=Billable)
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["posting", "discount", "component"]
        constraints = [
            SameOrganization(field="posting", name="discount_line_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization", "posting", "discount", "component"],
                name="discount_line_is_one_a_discount_and_component",
            ),
            models.CheckConstraint(condition=~models.Q(micros=0), name="discount_line_is_not_zero"),
        ]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return f"{self.component} {self.micros}"
