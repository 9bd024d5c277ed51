"""What-ifs: the months of an organization rated anew under another choice, kept for a while to be compared."""

import uuid

from django.conf import settings
from django.db import models

from accounts.models import Organization


class WhatIf(models.Model):
    """One choice, the billed months it is applied to, and what they would have cost.

    An empty choice leaves things as they were. `results` has a document for each month that is rated, the earliest
    first: its calls, those that were left as charged, and micros by component, as charged (`now`) and as chosen
    (`then`). Whoever rates holds the `lease` and touches the row at every month, by database time.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RATING = "rating", "Being rated"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"

    UNDER_WAY = (State.WAITING, State.RATING)

    public_id = models.UUIDField(default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="what_ifs")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    plan_version_id = models.BigIntegerField(null=True, help_text="The public price version; none is as charged.")
    voice = models.CharField(max_length=64, blank=True)
    llm = models.CharField(max_length=64, blank=True)
    telephony = models.CharField(max_length=64, blank=True)
    months = models.JSONField(help_text="First days of the billed months, the earliest first.")
    results = models.JSONField(default=list)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    lease = models.UUIDField(null=True)
    touched_at = models.DateTimeField(null=True, help_text="When a worker last went on with it, by database time.")
    attempts = models.PositiveSmallIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(help_text="From then on it is forgotten.")

    class Meta:
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "public_id"], name="what_if_public_id_is_unique"),
            models.CheckConstraint(
                condition=models.Q(plan_version_id__isnull=False)
                | ~models.Q(voice="")
                | ~models.Q(llm="")
                | ~models.Q(telephony=""),
                name="what_if_changes_something",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-asked_at"], name="what_if_of_organization"),
            models.Index(fields=["id"], condition=models.Q(state__in=["waiting", "rating"]), name="what_if_under_way"),
            models.Index(fields=["expires_at"], name="what_if_to_forget"),
        ]

    def __str__(self) -> str:
        return f"what if of {self.organization_id}"

    @property
    def is_under_way(self) -> bool:
        """Whether months are still to be rated."""
        return self.state in self.UNDER_WAY
