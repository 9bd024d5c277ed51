"""Calls that a webhook told of and that are not recorded yet."""

from django.db import models


class HeldCall(models.Model):
    """A call as a webhook told of it, until it is recorded: then its row is gone.

    What only ended is held until its analysis comes, or until `due_at`. What was refused stays, with the reason, for a
    person to correct and record again. `organization` is the vendor's reference as it was told, empty if nobody said.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        REFUSED = "refused", "Refused"

    organization = models.CharField(max_length=64, blank=True)
    call_id = models.CharField(max_length=128)
    is_analyzed = models.BooleanField()
    body = models.BinaryField(help_text="The call object, as it came.")
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    field = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    received_at = models.DateTimeField()
    due_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "call_id"], name="held_call_is_held_once"),
            models.CheckConstraint(
                condition=models.Q(state__in=["waiting", "refused"]), name="held_call_state_is_known"
            ),
        ]
        indexes = [
            models.Index(fields=["due_at", "id"], condition=models.Q(state="waiting"), name="held_call_by_due_time"),
        ]

    def __str__(self) -> str:
        return self.call_id
