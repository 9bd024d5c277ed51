"""Seats: a licensed price that an organization pays by the month, and the spend that it moves from them to outcomes."""

import uuid

from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing.models.stripe_objects import Invoice
from billing_portal.ledger.models import Bucket


class SeatPlan(models.Model):
    """The seats of an organization, on a subscription of their own at Stripe with an item for seats, one for outcomes.

    `seats` and `units` are what Stripe has confirmed, and bills from its next period on. `base_seats` is what was sold:
    what is not billed as seats is spend that was moved to outcomes. Detached, it bills nothing more.
    """

    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, related_name="seat_plan")
    stripe_price_id = models.CharField(max_length=64)
    stripe_subscription_id = models.CharField(max_length=64, unique=True)
    stripe_seats_item_id = models.CharField(max_length=64)
    stripe_units_item_id = models.CharField(max_length=64)
    seat_micros = models.BigIntegerField(help_text="One seat for a month, before tax.")
    currency = models.CharField(max_length=3)
    base_seats = models.PositiveIntegerField(help_text="As sold.")
    seats = models.PositiveIntegerField(help_text="As Stripe has confirmed.")
    units = models.PositiveIntegerField(help_text="Outcomes a month, as Stripe has confirmed.")
    unit_micros = models.BigIntegerField(help_text="The list price of one such outcome, as Stripe bills it.")
    attached_at = models.DateTimeField()
    detached_at = models.DateTimeField(null=True, help_text="Stripe has confirmed that nothing more is billed.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="seat_plan_is_its_organizations"),
            models.CheckConstraint(
                condition=models.Q(base_seats__gt=0, detached_at=None)
                | models.Q(base_seats=0, seats=0, units=0, detached_at__isnull=False),
                name="seat_plan_has_seats_until_detached",
            ),
            models.CheckConstraint(
                condition=models.Q(seat_micros__gt=0, unit_micros__gt=0), name="seat_plan_prices_are_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"seats of {self.organization_id}"


class SeatMove(models.Model):
    """A wish to have so many seats and so many outcomes a month, from the next period on, until Stripe confirms it."""

    class State(models.TextChoices):
        ASKED = "asked", "Asked"
        SENDING = "sending", "Sent to Stripe"
        CONFIRMED = "confirmed", "Confirmed"
        REFUSED = "refused", "Refused"
        CANCELED = "canceled", "Canceled"

    OPEN = (State.ASKED, State.SENDING)

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="seat_moves")
    plan = models.ForeignKey(SeatPlan, on_delete=models.PROTECT, db_constraint=False, related_name="moves")
    public_id = models.UUIDField(default=uuid.uuid4, editable=False)
    before_seats = models.PositiveIntegerField()
    before_units = models.PositiveIntegerField()
    before_unit_micros = models.BigIntegerField()
    seats = models.PositiveIntegerField()
    units = models.PositiveIntegerField()
    unit_micros = models.BigIntegerField()
    before_base_seats = models.PositiveIntegerField(null=True, help_text="Sold before, where staff change that.")
    base_seats = models.PositiveIntegerField(null=True, help_text="Sold from then on; none once detached.")
    state = models.CharField(max_length=16, choices=State, default=State.ASKED)
    reason = models.CharField(
        max_length=300, blank=True, default="", help_text="Why Stripe refused, or what it waits for."
    )
    asked_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    month = models.DateField(null=True, help_text="Confirmed, from this month on.")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            SameOrganization(field="plan", name="seat_move_is_of_its_own_plan"),
            models.UniqueConstraint(fields=["organization", "public_id"], name="seat_move_public_id_is_unique"),
            models.UniqueConstraint(
                fields=["organization"],
                condition=models.Q(state__in=["asked", "sending"]),
                name="seat_move_is_one_open",
            ),
            models.CheckConstraint(
                condition=models.Q(state="confirmed", month__isnull=False)
                | (~models.Q(state="confirmed") & models.Q(month=None)),
                name="seat_move_counts_once_confirmed",
            ),
            models.CheckConstraint(
                condition=models.Q(base_seats=None, before_base_seats=None)
                | models.Q(base_seats__gte=models.F("seats"), before_base_seats__isnull=False),
                name="seat_move_bills_no_more_seats_than_sold",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(state__in=["asked", "sending"]), name="seat_move_open")
        ]

    def __str__(self) -> str:
        return f"{self.before_seats} → {self.seats} seats"

    @property
    def is_of_staff(self) -> bool:
        """Whether it changes how many seats are sold, which is agreed with the customer and not theirs to cancel."""
        return self.base_seats is not None

    @property
    def detaches(self) -> bool:
        """Whether it ends the seats, with the subscription."""
        return self.base_seats == 0

    @property
    def is_open(self) -> bool:
        """Whether Stripe is still to confirm it."""
        return self.state in self.OPEN


class SeatMonth(models.Model):
    """What Stripe bills for one month of an organization: its seats, and the outcomes that are there. Once a month."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="seat_months")
    month = models.DateField()
    seats = models.PositiveIntegerField()
    seat_micros = models.BigIntegerField()
    units = models.PositiveIntegerField()
    unit_micros = models.BigIntegerField()
    bucket = models.ForeignKey(Bucket, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    invoice = models.ForeignKey(Invoice, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    begun_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "-month"]
        constraints = [
            SameOrganization(field="bucket", name="seat_month_has_its_own_bucket"),
            SameOrganization(field="invoice", name="seat_month_has_its_own_invoice"),
            models.UniqueConstraint(fields=["organization", "month"], name="seat_month_is_one_a_month"),
            models.CheckConstraint(
                condition=models.Q(units=0, bucket=None) | models.Q(units__gt=0, bucket__isnull=False),
                name="seat_month_has_the_outcomes_it_bills",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.month}: {self.seats} seats, {self.units} outcomes"
