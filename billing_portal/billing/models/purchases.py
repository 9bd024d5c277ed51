"""What is bought ahead, credit or a bucket: each purchase with its history, and the standing order for top-ups."""

import uuid

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing.models.buckets import BucketOffer, BucketRenewal
from billing_portal.billing.models.stripe_objects import Invoice, PaymentMethod
from billing_portal.ledger.models import Bucket, Grant


class TopUp(models.Model):
    """A standing order to buy credit whenever it runs low, as somebody accepted it. A change is a new row."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="top_ups")
    currency = models.CharField(max_length=3)
    threshold_micros = models.BigIntegerField()
    amount_micros = models.BigIntegerField()
    ceiling_micros = models.BigIntegerField(help_text="Most that is bought in one month, before tax.")
    mandate_version = models.CharField(max_length=32)
    mandate_text = models.TextField()
    accepted_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    accepted_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    ended_reason = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="top_up_is_its_organizations"),
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(ended_at=None), name="top_up_is_one_in_force"
            ),
            models.CheckConstraint(condition=models.Q(threshold_micros__gte=0), name="top_up_threshold_not_negative"),
            models.CheckConstraint(condition=models.Q(amount_micros__gt=0), name="top_up_amount_is_positive"),
            models.CheckConstraint(
                condition=models.Q(ceiling_micros__gte=models.F("amount_micros")), name="top_up_ceiling_holds_one"
            ),
        ]

    def __str__(self) -> str:
        return f"top-up of {self.organization_id}"


class Purchase(models.Model):
    """Credit or a bucket being bought: asked for, paid at Stripe, given as one grant or bucket.

    Its state moves only forward; `credited` is reached when what was bought is there.
    """

    class Kind(models.TextChoices):
        CREDIT = "credit", "Prepaid credit"
        BUCKET = "bucket", "Bucket of outcomes"

    class Origin(models.TextChoices):
        PERSON = "person", "Bought"
        TOP_UP = "top_up", "Automatic top-up"
        RENEWAL = "renewal", "Automatic renewal"

    class Way(models.TextChoices):
        CARD = "card", "Saved card"
        CHECKOUT = "checkout", "Stripe Checkout"

    class State(models.TextChoices):
        ASKED = "asked", "Asked"
        PAYING = "paying", "Being paid"
        NEEDS_ACTION = "needs_action", "Needs your confirmation"
        FAILED = "failed", "Failed"
        CANCELED = "canceled", "Canceled"
        PAID = "paid", "Paid"
        CREDITED = "credited", "Credited"

    # Money that came in outranks everything: should Stripe have it after all, it is credited.
    RANKS = {
        State.ASKED: 0,
        State.PAYING: 1,
        State.NEEDS_ACTION: 2,
        State.FAILED: 3,
        State.CANCELED: 3,
        State.PAID: 4,
        State.CREDITED: 5,
    }
    OPEN = (State.ASKED, State.PAYING, State.NEEDS_ACTION)

    public_id = models.UUIDField(
        default=uuid.uuid4, unique=True, editable=False, help_text="Minted with the form: asking again is asking once."
    )
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="purchases", db_index=False)
    origin = models.CharField(max_length=16, choices=Origin)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.CREDIT)
    way = models.CharField(max_length=16, choices=Way)
    currency = models.CharField(max_length=3)
    amount_micros = models.BigIntegerField(help_text="Before tax; what it gives, if it is credit.")
    state = models.CharField(max_length=16, choices=State, default=State.ASKED)
    asked_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    top_up = models.ForeignKey(
        TopUp, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="purchases"
    )
    payment_method = models.ForeignKey(
        PaymentMethod, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="+"
    )
    return_url = models.URLField(max_length=500, blank=True, default="", help_text="Where Checkout leads back to.")
    stripe_session_id = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001 - unique
    checkout_url = models.URLField(max_length=2000, blank=True, default="")
    invoice = models.OneToOneField(
        Invoice, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="purchase"
    )
    grant = models.OneToOneField(
        Grant, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="purchase"
    )
    offer = models.ForeignKey(BucketOffer, null=True, on_delete=models.PROTECT, related_name="purchases")
    renews = models.BooleanField(default=False, help_text="The bucket is to be bought again when its term ends.")
    upgrades = models.ForeignKey(
        Bucket,
        null=True,
        on_delete=models.PROTECT,
        db_constraint=False,
        related_name="+",
        help_text="The bucket in whose place the one that is bought will stand.",
    )
    renewal = models.ForeignKey(
        BucketRenewal, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="purchases"
    )
    bucket = models.OneToOneField(
        Bucket, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="purchase"
    )
    presentment_currency = models.CharField(
        max_length=3,
        blank=True,
        default="",
        help_text="What it was paid in, where that was another.",
    )
    presentment_minor = models.BigIntegerField(null=True, help_text="How much of that, with tax, in its minor unit.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Charges begun.")
    declines = models.PositiveSmallIntegerField(default=0, help_text="Charges that were declined.")
    is_given_up = models.BooleanField(default=False, help_text="It is to be closed at Stripe and then ended.")
    failure = models.CharField(max_length=300, blank=True, default="")
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, help_text="When a person's part must be done.")
    due_at = models.DateTimeField(null=True, help_text="When to go on; none once nothing is left to do.")
    credited_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="purchase_is_its_organizations"),
            SameOrganization(field="top_up", name="purchase_is_of_its_own_top_up"),
            SameOrganization(field="payment_method", name="purchase_is_paid_by_its_own_card"),
            SameOrganization(field="invoice", name="purchase_is_on_its_own_invoice"),
            SameOrganization(field="grant", name="purchase_gave_its_own_grant"),
            SameOrganization(field="bucket", name="purchase_gave_its_own_bucket"),
            SameOrganization(field="upgrades", name="purchase_upgrades_its_own_bucket"),
            SameOrganization(field="renewal", name="purchase_is_of_its_own_renewal"),
            # The amount is not in it: whatever changes meanwhile, there is one (F36).
            models.UniqueConstraint(
                fields=["organization", "origin"],
                condition=models.Q(state__in=["asked", "paying", "needs_action"]),
                name="purchase_is_one_open",
            ),
            models.CheckConstraint(condition=models.Q(amount_micros__gt=0), name="purchase_amount_is_positive"),
            models.CheckConstraint(
                condition=models.Q(state="credited", kind="credit", grant__isnull=False, bucket=None)
                | models.Q(state="credited", kind="bucket", grant=None, bucket__isnull=False)
                | (~models.Q(state="credited") & models.Q(grant=None, bucket=None)),
                name="purchase_is_credited_by_what_it_gave",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="credit", offer=None, upgrades=None, renews=False)
                | models.Q(kind="bucket", offer__isnull=False),
                name="purchase_of_a_bucket_names_its_offer",
            ),
            models.CheckConstraint(
                condition=models.Q(origin="top_up", kind="credit", top_up__isnull=False, renewal=None, way="card")
                | models.Q(origin="renewal", kind="bucket", top_up=None, renewal__isnull=False, way="card")
                | models.Q(origin="person", top_up=None, renewal=None, asked_by__isnull=False),
                name="purchase_names_who_asked",
            ),
            models.CheckConstraint(
                condition=models.Q(presentment_currency="", presentment_minor=None)
                | (~models.Q(presentment_currency="") & models.Q(presentment_minor__gt=0)),
                name="purchase_was_paid_in_a_currency_by_an_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(declines__lte=models.F("attempts")), name="purchase_declines_what_was_tried"
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(due_at__isnull=False), name="purchase_due"),
            models.Index(fields=["organization", "-id"], name="purchase_by_organization"),
        ]

    def __str__(self) -> str:
        return f"{self.get_origin_display()} {self.public_id}"

    @property
    def is_open(self) -> bool:
        """Say whether it may still be paid or given up."""
        return self.state in self.OPEN

    @property
    def is_automatic(self) -> bool:
        """Say whether nobody is there when it is charged: the card's owner gets a letter, a decline is tried again."""
        return self.origin != self.Origin.PERSON

    @property
    def title(self) -> str:
        """What is bought, as its invoice says it."""
        if self.offer is None:
            return str(self.Kind.CREDIT.label)
        return f"Upgrade to: {self.offer.title}" if self.upgrades_id else self.offer.title

    @property
    def reference(self) -> str:
        """Its name in the ledger and in our writes to Stripe."""
        return f"purchase:{self.public_id}"


class PurchaseStep(models.Model):
    """One step of a purchase, as people read its history."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    purchase = models.ForeignKey(Purchase, on_delete=models.PROTECT, db_constraint=False, related_name="steps")
    state = models.CharField(max_length=16, choices=Purchase.State)
    note = models.CharField(max_length=300, blank=True, default="")
    at = models.DateTimeField()

    class Meta:
        ordering = ["purchase", "id"]
        constraints = [
            SameOrganization(field="purchase", name="purchase_step_is_of_its_own"),
        ]
        triggers = [pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.state} {self.note}"
