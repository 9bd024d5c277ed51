"""What earned a welcome credit, so that it earns none again."""

from django.db import models

from accounts.models import Organization


class WelcomeClaim(models.Model):
    """One thing by which a welcome credit is earned once: a place of a company's domain, a mailbox, a card."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=320, unique=True)
    claimed_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.key
