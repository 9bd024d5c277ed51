"""What was forgiven of what is owed."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.ledger.models.books import Transaction
from usage.models import Billable

_INSERT_ONLY = pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)


class WriteOff(models.Model):
    """What is forgiven of one month. Before the month closed it has lines, which come off its invoice; after, none."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    transaction = models.OneToOneField(
        Transaction, on_delete=models.PROTECT, db_constraint=False, related_name="write_off"
    )
    month = models.DateField(help_text="First day of the month that it was owed for.")
    micros = models.BigIntegerField()
    debt = models.CharField(
        max_length=200, blank=True, default="", help_text="What was given up, as its caller names it: an invoice."
    )

    class Meta:
        ordering = ["organization", "month", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="write_off_is_its_organizations"),
            SameOrganization(field="transaction", name="write_off_is_of_its_own_transaction"),
            models.CheckConstraint(condition=models.Q(micros__gt=0), name="write_off_is_positive"),
        ]
        indexes = [models.Index(fields=["organization", "month"], name="write_off_by_month")]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return f"{self.micros} of {self.month:%Y-%m}"


class WriteOffLine(models.Model):
    """What is forgiven of one component, and so comes off the invoice's line."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    write_off = models.ForeignKey(WriteOff, on_delete=models.PROTECT, db_constraint=False, related_name="lines")
    component = models.CharField(max_length=24, choices=Billable)
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["write_off", "component"]
        constraints = [
            SameOrganization(field="write_off", name="write_off_line_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization", "write_off", "component"], name="write_off_line_is_one_a_component"
            ),
            models.CheckConstraint(condition=models.Q(micros__gt=0), name="write_off_line_is_positive"),
        ]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return f"{self.component} {self.micros}"
