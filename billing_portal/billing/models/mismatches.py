"""Differences that the continuous reconciliation found, until they are gone or a person has explained them."""

from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing.models.stripe_objects import Invoice


class InvoiceCheck(models.Model):
    """When an invoice was last compared with everything behind it."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.OneToOneField(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="check_made")
    state = models.CharField(max_length=16, choices=Invoice.State, help_text="The invoice's, when it was compared.")
    differences = models.PositiveIntegerField()
    checked_at = models.DateTimeField()
    deep_at = models.DateTimeField(null=True, help_text="When every call was last rated anew for it.")

    class Meta:
        ordering = ["organization", "id"]
        constraints = [SameOrganization(field="invoice", name="invoice_check_is_of_its_own_invoice")]

    def __str__(self) -> str:
        return f"{self.differences} of {self.invoice_id}"


class Mismatch(models.Model):
    """One thing that is not what it should be: where, why, how much, and whose it is to put right.

    It is found again as often as it is there; a cure, or the next event, may end it, and otherwise a person.
    """

    class Cause(models.TextChoices):
        LATE = "late", "Not here yet"
        MISSING_EVENT = "missing_event", "An event of Stripe's is missing"
        REJECTED = "rejected", "Stripe did not take a report"
        MISCOUNTED = "miscounted", "Stripe counted otherwise"
        MISBILLED = "misbilled", "Stripe billed otherwise"
        DERIVED = "derived", "A derived figure is stale"
        MISCHARGED = "mischarged", "A call or outcome is charged wrongly"
        BOOKS = "books", "The books lack something"

    class Owner(models.TextChoices):
        PORTAL = "portal", "Heals itself"
        STAFF = "staff", "Staff"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        HEALED = "healed", "Healed"
        EXPLAINED = "explained", "Explained"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(
        Invoice, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="mismatches"
    )
    month = models.DateField(null=True, help_text="For usage that no invoice bills.")
    level = models.CharField(max_length=32)
    subject = models.CharField(max_length=300)
    cause = models.CharField(max_length=16, choices=Cause)
    owner = models.CharField(max_length=8, choices=Owner)
    text = models.CharField(max_length=400)
    currency = models.CharField(max_length=3)
    amount_micros = models.BigIntegerField(null=True, help_text="How far apart the two are; none where one is missing.")
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    found_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="When it was last found.")
    ended_at = models.DateTimeField(null=True)
    explained_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        verbose_name_plural = "mismatches"
        ordering = ["organization", "id"]
        constraints = [
            SameOrganization(field="invoice", name="mismatch_is_of_its_own_invoice"),
            models.UniqueConstraint(
                fields=["organization", "invoice", "month", "level", "subject"],
                condition=models.Q(state__in=["open", "explained"]),
                nulls_distinct=False,
                name="mismatch_is_one_a_subject",
            ),
            models.CheckConstraint(
                condition=models.Q(state="open", ended_at=None)
                | (~models.Q(state="open") & models.Q(ended_at__isnull=False)),
                name="mismatch_ends_when_it_is_not_open",
            ),
        ]
        indexes = [models.Index(fields=["-id"], condition=models.Q(state="open"), name="mismatch_open")]

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}"
