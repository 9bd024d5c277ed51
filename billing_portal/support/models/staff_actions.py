"""What members of staff did to an organization, or asked a second one to approve."""

import pgtrigger
from django.db import models

from accounts.models import Organization, User


class StaffAction(models.Model):
    """One action: by whom, why, and where it needs a second person, who decided. It is done at most once.

    `public_id` is minted with the form, and the domain's reference is made of it: however often the form is sent, it is
    one action. `kind` names an entry of `support.kinds`, and `params` are that kind's own.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waits for approval"
        DONE = "done", "Done"
        DECLINED = "declined", "Declined"
        WITHDRAWN = "withdrawn", "Withdrawn"

    public_id = models.UUIDField(unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="staff_actions")
    kind = models.CharField(max_length=32)
    params = models.JSONField()
    reason = models.CharField(max_length=200)
    amount_micros = models.BigIntegerField(null=True, help_text="What the limit was judged by.")
    currency = models.CharField(max_length=3)
    needs_approval = models.BooleanField()
    state = models.CharField(max_length=16, choices=State)
    asked_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        permissions = [("decide_staffaction", "Can approve and decline what others asked for")]
        constraints = [
            models.CheckConstraint(condition=~models.Q(reason=""), name="staff_action_has_a_reason"),
            models.CheckConstraint(
                condition=models.Q(decided_by=None) | ~models.Q(decided_by=models.F("asked_by")),
                name="staff_action_is_decided_by_another",
            ),
            models.CheckConstraint(
                condition=models.Q(decided_by=None, decided_at=None)
                | models.Q(decided_by__isnull=False, decided_at__isnull=False),
                name="staff_action_is_decided_by_someone_at_some_time",
            ),
            models.CheckConstraint(
                condition=models.Q(state="waiting", needs_approval=True, decided_by=None)
                | models.Q(state="withdrawn", needs_approval=True, decided_by=None)
                | models.Q(state="declined", needs_approval=True, decided_by__isnull=False)
                | models.Q(state="done", needs_approval=True, decided_by__isnull=False)
                | models.Q(state="done", needs_approval=False, decided_by=None),
                name="staff_action_is_done_with_the_approval_it_needs",
            ),
        ]
        indexes = [
            models.Index(fields=["asked_at"], condition=models.Q(state="waiting"), name="staff_action_waiting"),
            models.Index(fields=["organization", "asked_by", "asked_at"], name="staff_action_by_person"),
        ]
        triggers = [
            pgtrigger.Protect(name="staff_actions_are_kept", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="decided_actions_stand",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__in=["done", "declined", "withdrawn"]),
                func="RAISE EXCEPTION 'staff action % is decided', OLD.public_id;",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.organization_id}"

    @property
    def reference(self) -> str:
        """What names this action in the ledger and elsewhere."""
        return f"staff:{self.public_id}"
