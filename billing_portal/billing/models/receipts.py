"""Receipts: the signed roots of what an invoice rests on, the keys that sign, and the files that are made of it."""

import uuid

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.billing.models.stripe_objects import Invoice

_INSERT_ONLY = pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)


class ReceiptKey(models.Model):
    """The public half of a key that signs receipts, kept and published for ever; the private one is in the settings."""

    fingerprint = models.CharField(max_length=16, unique=True)
    public_key = models.BinaryField()
    first_used_at = models.DateTimeField()

    class Meta:
        ordering = ["first_used_at", "id"]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return self.fingerprint

    @property
    def in_hexadecimal(self) -> str:
        """The public key, as people compare it."""
        return bytes(self.public_key).hex()


class Receipt(models.Model):
    """The two signed roots of an invoice: over the usage, made while it was a draft, and over what Stripe made of it.

    A head is canonical JSON that names each file with its number of lines and its root; its hash is the root. The usage
    is what stood in the books up to `through_sequence` and `through_transaction_id`. `subtrees` are the roots of the
    usage's subtrees by file, in hexadecimal. Neither part changes once it is there (trigger).
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.OneToOneField(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="receipt")
    month = models.DateField()
    through_sequence = models.BigIntegerField()
    through_transaction_id = models.BigIntegerField()
    usage_head = models.BinaryField()
    usage_root = models.CharField(max_length=64)
    usage_signature = models.BinaryField()
    usage_key = models.ForeignKey(
        ReceiptKey, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    subtrees = models.JSONField()
    made_at = models.DateTimeField()
    anchored_at = models.DateTimeField(null=True, help_text="When the root was on Stripe's draft.")
    invoice_head = models.BinaryField(null=True)
    invoice_root = models.CharField(max_length=64, blank=True, default="")
    invoice_signature = models.BinaryField(null=True)
    invoice_key = models.ForeignKey(
        ReceiptKey, null=True, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    sealed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["organization", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="receipt_is_its_organizations"),
            SameOrganization(field="invoice", name="receipt_is_of_its_own"),
            models.CheckConstraint(
                condition=models.Q(
                    sealed_at=None, invoice_head=None, invoice_signature=None, invoice_key=None, invoice_root=""
                )
                | models.Q(
                    sealed_at__isnull=False,
                    invoice_head__isnull=False,
                    invoice_signature__isnull=False,
                    invoice_key__isnull=False,
                )
                & ~models.Q(invoice_root=""),
                name="receipt_is_sealed_whole",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="receipt_is_kept", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="what_is_signed_stands",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                func="""
                    IF (OLD.organization_id, OLD.invoice_id, OLD.month, OLD.through_sequence,
                        OLD.through_transaction_id, OLD.usage_head, OLD.usage_root, OLD.usage_signature,
                        OLD.usage_key_id, OLD.subtrees, OLD.made_at)
                       IS DISTINCT FROM
                       (NEW.organization_id, NEW.invoice_id, NEW.month, NEW.through_sequence,
                        NEW.through_transaction_id, NEW.usage_head, NEW.usage_root, NEW.usage_signature,
                        NEW.usage_key_id, NEW.subtrees, NEW.made_at)
                    OR OLD.anchored_at IS NOT NULL AND NEW.anchored_at IS DISTINCT FROM OLD.anchored_at
                    OR OLD.sealed_at IS NOT NULL AND
                       (OLD.invoice_head, OLD.invoice_root, OLD.invoice_signature, OLD.invoice_key_id, OLD.sealed_at)
                       IS DISTINCT FROM
                       (NEW.invoice_head, NEW.invoice_root, NEW.invoice_signature, NEW.invoice_key_id, NEW.sealed_at)
                    THEN
                        RAISE EXCEPTION 'receipt % is signed', OLD.id USING ERRCODE = 'integrity_constraint_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return self.usage_root


class ReceiptPayment(models.Model):
    """What became of the money after an invoice was final: a signed record, which names the one before it."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    receipt = models.ForeignKey(Receipt, on_delete=models.PROTECT, db_constraint=False, related_name="payments")
    number = models.PositiveIntegerField()
    body = models.BinaryField()
    signature = models.BinaryField()
    key = models.ForeignKey(ReceiptKey, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False)

    class Meta:
        ordering = ["receipt", "number"]
        constraints = [
            SameOrganization(field="receipt", name="receipt_payment_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization", "receipt", "number"], name="receipt_payment_is_one_a_number"
            ),
        ]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return f"{self.number} of {self.receipt_id}"


class ReceiptFile(models.Model):
    """One ZIP that somebody asked for, made by a worker who holds the `lease` and touches the row as he goes on."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        WRITING = "writing", "Being made"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Expired"

    UNDER_WAY = (State.WAITING, State.WRITING)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    lines = models.BigIntegerField(default=0, help_text="How many it will have, once that is known.")
    lines_done = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    payments = models.PositiveIntegerField(default=0, help_text="How many payment records it holds.")
    lease = models.UUIDField(null=True)
    touched_at = models.DateTimeField(null=True, help_text="When a worker last went on with it, by database time.")
    attempts = models.PositiveSmallIntegerField(default=0)
    failure = models.CharField(max_length=300, blank=True, default="")
    asked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True, help_text="From then on the file is gone.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            SameOrganization(field="invoice", name="receipt_file_is_of_its_own"),
            models.UniqueConstraint(
                fields=["organization", "invoice"],
                condition=models.Q(state__in=["waiting", "writing"]),
                name="receipt_file_is_one_under_way",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="ready") | models.Q(expires_at__isnull=False, finished_at__isnull=False),
                name="receipt_file_that_is_ready_expires",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "invoice", "-id"], name="receipt_file_of_invoice"),
            models.Index(
                fields=["id"], condition=models.Q(state__in=["waiting", "writing"]), name="receipt_file_under_way"
            ),
            models.Index(fields=["expires_at"], condition=models.Q(state="ready"), name="receipt_file_to_expire"),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.public_id}"

    @property
    def is_under_way(self) -> bool:
        """Whether it is still to be made."""
        return self.state in self.UNDER_WAY
