"""Whom an organization tells when its spend grows or its credit shrinks, and what it has told."""

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Organization, User


def default_bucket_percents() -> list[int]:
    """Return at which parts of a bucket alerts are sent where nobody has said it."""
    return [50, 80, 90, 100]


class AlertSettings(models.Model):
    """At which percentages alerts are sent, and to whom; without a row, the defaults hold.

    Spend is measured against the budget, or without one against the cap.
    """

    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, related_name="+")
    spend_percents = ArrayField(models.PositiveSmallIntegerField())
    credit_percents = ArrayField(models.PositiveSmallIntegerField())
    bucket_percents = ArrayField(models.PositiveSmallIntegerField(), default=default_bucket_percents)
    budget_micros = models.BigIntegerField(null=True)
    recipients = ArrayField(models.EmailField(), help_text="Empty: whoever reads about money.")
    set_at = models.DateTimeField()
    set_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(budget_micros=None) | models.Q(budget_micros__gt=0), name="alert_budget_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"alerts of {self.organization_id}"


class Alert(models.Model):
    """One threshold that was passed: once per gauge, period and threshold, for ever.

    `base` is what 100 % was and `used` what was found, in the gauge's unit: micros for money, outcomes for a bucket,
    which is named by `period`. The letters it asked for
    have the reference `letter_reference`. A quiet one asked for none: a higher one was told, or whoever set the
    threshold saw that it was passed.
    """

    class Gauge(models.TextChoices):
        SPEND = "spend", "Spend this month"
        CREDIT = "credit", "Credit used"
        BUCKET = "bucket", "Bucket used"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    gauge = models.CharField(max_length=16, choices=Gauge)
    period = models.CharField(max_length=40)
    percent = models.PositiveSmallIntegerField()
    threshold = models.BigIntegerField()
    base = models.BigIntegerField()
    used = models.BigIntegerField()
    is_quiet = models.BooleanField()
    recipients = ArrayField(models.EmailField())
    raised_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "gauge", "period", "threshold"], name="alert_is_raised_once"
            ),
        ]
        triggers = [pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.gauge} {self.percent} % in {self.period}"

    @property
    def letter_reference(self) -> str:
        return f"alert:{self.pk}"
