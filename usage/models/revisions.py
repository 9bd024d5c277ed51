"""Revisions: what a corrected call is now, why, and what that changed in money."""

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Organization


class CallRevision(models.Model):
    """A later revision of a call: which row of the call table it is, what it replaces, and its price in full.

    The row of the call table holds what the revision costs *more*, component by component, than was charged before:
    that is what is settled. `line_micros` is its price in full, by the places of its mix, empty until a price covers
    it; `before_micros` the price in full that it replaces, and `given_back` what it costs less, both by component. So
    charged - given back = the price now - the price before.

    `previous_id` is the row of the revision before. `replaces_id` is the newest before it that has a price: one that
    never had any is charged to nobody. `pinned_version_id` is the price version that a backfill chose for the call.
    The key is the vendor's id, hashed as in `CallKey`.
    """

    class Origin(models.TextChoices):
        API = "api", "The platform"
        STAFF = "staff", "Staff"
        BACKFILL = "backfill", "New prices"

    pk = models.CompositePrimaryKey("organization_id", "key", "revision")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    key = models.UUIDField()
    revision = models.SmallIntegerField()
    id = models.BigIntegerField(help_text="The call's.")
    started_at = models.DateTimeField()
    previous_id = models.BigIntegerField()
    replaces_id = models.BigIntegerField(null=True)
    replaces_at = models.DateTimeField(null=True, help_text="When the call that it replaces started.")
    replaces_zone = models.CharField(max_length=64, blank=True, default="")
    digest = models.UUIDField()
    origin = models.CharField(max_length=16, choices=Origin)
    author_id = models.BigIntegerField(null=True, help_text="The API key, the member of staff or the backfill.")
    reason = models.CharField(max_length=200, blank=True)
    recorded_at = models.DateTimeField()
    pinned_version_id = models.BigIntegerField(null=True)
    before_micros = models.JSONField(default=dict)
    line_micros = ArrayField(models.BigIntegerField(), null=True)
    given_back = models.JSONField(default=dict)
    given_back_micros = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["organization", "key", "revision"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="call_revision_is_one_call"),
            models.UniqueConstraint(fields=["organization", "previous_id"], name="call_revision_follows_one_alone"),
            models.CheckConstraint(condition=models.Q(revision__gt=1), name="call_revision_is_a_later_one"),
            models.CheckConstraint(
                condition=models.Q(given_back_micros__gte=0), name="call_revision_gives_back_nothing_negative"
            ),
            models.CheckConstraint(
                condition=models.Q(replaces_id=None, replaces_at=None)
                | models.Q(replaces_id__isnull=False, replaces_at__isnull=False),
                name="call_revision_replaces_a_call",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="call_revision_is_kept", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="priced_call_revision_is_kept",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__line_micros__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"revision {self.revision} of {self.key}"
