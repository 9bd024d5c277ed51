"""Money held for calls that are about to start, and the calls that were refused."""

import pgtrigger
from django.db import models

from accounts.models import Organization


class Direction(models.TextChoices):
    INBOUND = "inbound", "Inbound"
    OUTBOUND = "outbound", "Outbound"


class Reservation(models.Model):
    """An upper bound of what a call will cost, held until the call is recorded, it is released, or its time is over.

    All its instants are the database's (F25). It ends in exactly one way, and then never changes (I14).
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        USED = "used", "Used"
        RELEASED = "released", "Released"
        EXPIRED = "expired", "Expired"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    reference = models.CharField(max_length=128)
    call_id = models.CharField(max_length=128, blank=True, default="")
    direction = models.CharField(max_length=8, choices=Direction, blank=True, default="")
    amount_micros = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    lasts_seconds = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["organization", "id"]
        indexes = [
            models.Index(
                fields=["organization", "expires_at"],
                include=["amount_micros"],
                condition=models.Q(state="open"),
                name="reservation_open",
            ),
            models.Index(fields=["expires_at"], condition=models.Q(state="open"), name="reservation_to_expire"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["organization", "reference"], name="reservation_reference_is_unique"),
            models.CheckConstraint(condition=models.Q(amount_micros__gt=0), name="reservation_amount_is_positive"),
            models.CheckConstraint(
                condition=models.Q(state="open", ended_at=None)
                | models.Q(state__in=["used", "released", "expired"], ended_at__isnull=False),
                name="reservation_is_open_or_ended",
            ),
            models.CheckConstraint(
                condition=models.Q(direction__in=["", "inbound", "outbound"]), name="reservation_direction_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("created_at")), name="reservation_expires_after_it_began"
            ),
        ]
        triggers = [
            pgtrigger.Protect(
                name="open_reservation_is_kept", operation=pgtrigger.Delete, condition=pgtrigger.Q(old__state="open")
            ),
            pgtrigger.Protect(
                name="reservation_ends_once",
                operation=pgtrigger.Update,
                condition=~pgtrigger.Q(old__state="open"),
            ),
            pgtrigger.ReadOnly(
                name="reservation_holds_what_it_held",
                fields=[
                    "organization",
                    "reference",
                    "amount_micros",
                    "currency",
                    "direction",
                    "created_at",
                    "expires_at",
                ],
            ),
        ]

    def __str__(self) -> str:
        return self.reference


class Refusal(models.Model):
    """A call that was refused: why, and how often it was asked for."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    call_id = models.CharField(max_length=128)
    direction = models.CharField(max_length=8, choices=Direction, blank=True, default="")
    reason = models.CharField(max_length=24)
    amount_micros = models.BigIntegerField(null=True, help_text="What was to be reserved; empty for a mere question.")
    times = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "-last_at", "-id"]
        indexes = [models.Index(fields=["organization", "-last_at", "-id"], name="refusal_newest")]
        constraints = [
            models.UniqueConstraint(fields=["organization", "call_id"], name="refusal_is_one_a_call"),
        ]

    def __str__(self) -> str:
        return f"{self.call_id}: {self.reason}"


class RefusalHour(models.Model):
    """How many calls were refused in an hour; those beyond the hour's limit of rows are counted and not listed."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    hour_at = models.DateTimeField()
    calls = models.PositiveIntegerField()
    unlisted = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["organization", "-hour_at"]
        constraints = [models.UniqueConstraint(fields=["organization", "hour_at"], name="refusal_hour_is_one_an_hour")]

    def __str__(self) -> str:
        return f"{self.calls} at {self.hour_at:%Y-%m-%d %H}"
