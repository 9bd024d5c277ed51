"""What the portal itself remembers: lists of calls that people named."""

import uuid

from django.conf import settings
from django.db import models

from accounts.models import Organization


class SavedView(models.Model):
    """A list of calls under a name: filters, order and days as its address has them, for its owner or for all members.

    Days with a name move with today. One that was deleted stays a while, so that it can be taken back.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000, help_text="What stands behind the question mark.")
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "owner", "name"],
                condition=models.Q(deleted_at__isnull=True),
                name="saved_view_name_is_unique",
            ),
        ]
        indexes = [models.Index(fields=["organization", "name"], name="saved_view_of_organization")]

    def __str__(self) -> str:
        return self.name
