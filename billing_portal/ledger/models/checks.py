"""What the nightly proof of the ledger found."""

from django.db import models

from accounts.models import Organization


class Check(models.Model):
    """When an organization's books were last proved, and how many differences there were."""

    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, related_name="ledger_check")
    checked_at = models.DateTimeField()
    differences = models.PositiveIntegerField()

    class Meta:
        ordering = ["checked_at", "id"]
        indexes = [models.Index(fields=["checked_at"], name="check_by_age")]

    def __str__(self) -> str:
        return f"{self.organization_id} at {self.checked_at:%Y-%m-%d %H:%M}"


class Finding(models.Model):
    """One broken law of the ledger. One that staff accepted when they lifted the freeze does not freeze again."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="ledger_findings")
    law = models.CharField(max_length=120)
    subject = models.CharField(max_length=120)
    expected = models.DecimalField(max_digits=40, decimal_places=0)
    found = models.DecimalField(max_digits=40, decimal_places=0)
    noticed_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True, help_text="When a later check no longer found it.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "law", "subject", "expected", "found"],
                condition=models.Q(resolved_at=None),
                name="finding_is_open_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.law}: {self.subject}: expected {self.expected}, found {self.found}"
