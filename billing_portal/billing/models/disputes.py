"""What customers say is billed wrongly: each case, and what was written about it."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing.models.credit_notes import CreditNote
from billing_portal.ledger.models import Grant


class Dispute(models.Model):
    """One subject that a customer disputes, from opened to decided or withdrawn. A chargeback is the bank's instead.

    `kind` and `reference` name the subject; `amount_micros` is what it cost when the dispute was opened. While it is
    open and the vendor's turn, `due_at` is when the answer is due; the customer's turn has none.
    """

    class Kind(models.TextChoices):
        CALL = "call", "Call"
        CONVERSATION = "conversation", "Conversation"
        INVOICE_LINE = "invoice_line", "Invoice line"
        COMPARISON = "comparison", "Comparison of call logs"

    class Reason(models.TextChoices):
        NEVER_HAPPENED = "never_happened", "It never happened"
        WRONG_QUANTITY = "wrong_quantity", "The duration or quantity is wrong"
        WRONG_PRICE = "wrong_price", "The price is wrong"
        CHARGED_TWICE = "charged_twice", "It is charged twice"
        WRONG_OUTCOME = "wrong_outcome", "The outcome is not what happened"
        OTHER = "other", "Something else"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        GRANTED = "granted", "Granted"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"

    public_id = models.UUIDField(unique=True, editable=False, help_text="Minted with the form.")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="disputes", db_index=False)
    kind = models.CharField(max_length=16, choices=Kind)
    reference = models.CharField(max_length=200)
    label = models.CharField(max_length=300, help_text="What it is called, as it was when the dispute was opened.")
    reason = models.CharField(max_length=16, choices=Reason)
    currency = models.CharField(max_length=3)
    amount_micros = models.BigIntegerField(help_text="What the subject cost, after discounts.")
    price_micros = models.BigIntegerField(null=True, help_text="What it cost before them; of old disputes the same.")
    claimed_micros = models.BigIntegerField(help_text="What the customer wants back of it.")
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    opened_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    opened_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    reminded_at = models.DateTimeField(null=True, help_text="When staff were told that the answer is late.")
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    decision = models.CharField(max_length=300, blank=True, default="", help_text="Why, for the customer to read.")
    given_micros = models.BigIntegerField(null=True, help_text="What a granted dispute gave back, before tax.")
    grant = models.OneToOneField(
        Grant, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="dispute"
    )

    credit_note = models.OneToOneField(
        CreditNote, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="dispute"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="dispute_is_its_organizations"),
            models.UniqueConstraint(
                fields=["organization", "kind", "reference"],
                condition=models.Q(state="open"),
                name="dispute_is_one_open_a_subject",
            ),
            SameOrganization(field="grant", name="dispute_gave_its_own_grant"),
            SameOrganization(field="credit_note", name="dispute_lowered_its_own_invoice"),
            models.CheckConstraint(
                condition=models.Q(claimed_micros__gt=0, claimed_micros__lte=models.F("amount_micros")),
                name="dispute_claims_at_most_what_it_cost",
            ),
            models.CheckConstraint(
                condition=models.Q(state="open", decided_at=None, decided_by=None)
                | (~models.Q(state="open") & models.Q(decided_at__isnull=False, decided_by__isnull=False, due_at=None)),
                name="dispute_is_decided_by_someone_at_some_time",
            ),
            models.CheckConstraint(
                condition=~models.Q(state__in=["granted", "rejected"]) | ~models.Q(decision=""),
                name="dispute_decision_has_a_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(state="granted", given_micros=0, grant=None, credit_note=None)
                | models.Q(state="granted", given_micros__gt=0, grant__isnull=False, credit_note=None)
                | models.Q(state="granted", given_micros__gt=0, grant=None, credit_note__isnull=False)
                | (~models.Q(state="granted") & models.Q(given_micros=None, grant=None, credit_note=None)),
                name="dispute_gives_back_one_way",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="dispute_by_organization"),
            models.Index(fields=["due_at", "id"], condition=models.Q(state="open"), name="dispute_by_deadline"),
        ]
        triggers = [
            pgtrigger.Protect(name="disputes_are_kept", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="decided_disputes_stand",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__in=["granted", "rejected", "withdrawn"]),
                func="RAISE EXCEPTION 'dispute % is decided', OLD.public_id;",
            ),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def reference_in_ledger(self) -> str:
        """What names its give-back in the ledger: there is one."""
        return f"dispute:{self.public_id}"

    @property
    def is_open(self) -> bool:
        """Say whether it still waits for a decision."""
        return self.state == self.State.OPEN


class DisputeMessage(models.Model):
    """What one side wrote about a dispute. Customers read that the vendor wrote, not who."""

    public_id = models.UUIDField(unique=True, editable=False, help_text="Minted with the form.")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, db_constraint=False, related_name="messages")
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    is_from_vendor = models.BooleanField()
    text = models.TextField(max_length=4000)
    written_at = models.DateTimeField()

    class Meta:
        ordering = ["dispute", "id"]
        constraints = [
            SameOrganization(field="dispute", name="dispute_message_is_of_its_own"),
            models.CheckConstraint(condition=~models.Q(text=""), name="dispute_message_says_something"),
        ]
        triggers = [pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.dispute_id}: {self.text[:60]}"
