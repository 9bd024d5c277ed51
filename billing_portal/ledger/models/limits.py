"""What an organization may spend in a month, and what it has spent: the facts behind an authorization."""

import pgtrigger
from django.db import models

from accounts.models import Organization, User


class SpendLimit(models.Model):
    """The monthly cap of an organization, as somebody set it. The newest row is in force; none is ever changed.

    Without `cap_micros` there is no cap. A cap that only warns stops nothing. One that stops does so for each direction
    of calls at its own part of the cap: outbound calls may be refused before it is reached, and inbound ones be kept a
    little beyond it. Calls that run when usage stops are to be finished, or to be ended: that is the platform's to do.
    """

    class Mode(models.TextChoices):
        WARN = "warn", "Only warn"
        STOP = "stop", "Stop usage"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    cap_micros = models.BigIntegerField(null=True)
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.STOP)
    outbound_percent = models.PositiveSmallIntegerField(default=100)
    inbound_percent = models.PositiveSmallIntegerField(default=100)
    finishes_live_calls = models.BooleanField(default=True)
    set_at = models.DateTimeField()
    set_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["organization", "-id"]
        indexes = [models.Index(fields=["organization", "-id"], name="spend_limit_newest")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(cap_micros=None) | models.Q(cap_micros__gte=0), name="spend_limit_is_not_negative"
            ),
            models.CheckConstraint(
                condition=models.Q(outbound_percent__range=(1, 100)), name="spend_limit_outbound_is_within_the_cap"
            ),
            models.CheckConstraint(
                condition=models.Q(inbound_percent__range=(100, 200)), name="spend_limit_inbound_is_at_least_the_cap"
            ),
            models.CheckConstraint(condition=models.Q(mode__in=["warn", "stop"]), name="spend_limit_mode_is_known"),
        ]
        triggers = [pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.cap_micros} of {self.organization_id}"


class MonthSpend(models.Model):
    """What a billing month came to so far, whoever paid for it: its settlements, less what corrections took back of it.

    Triggers of `Settlement` and `GiveBack` add both up in the same statement, so that an authorization reads one row;
    `verify_ledger` proves it. `checked_micros` is what the alerts have seen of the difference.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    month = models.DateField()
    gross_micros = models.BigIntegerField()
    given_back_micros = models.BigIntegerField(db_default=0)
    checked_micros = models.BigIntegerField(null=True)

    class Meta:
        ordering = ["organization", "month"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "month"], name="month_spend_is_one_a_month"),
            models.CheckConstraint(
                condition=models.Q(given_back_micros__gte=0, given_back_micros__lte=models.F("gross_micros")),
                name="month_spend_is_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.gross_micros} in {self.month:%Y-%m} of {self.organization_id}"
