"""Sums over settled calls. The organization leads every key."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Organization
from usage.models.calls import Agent, ProductMix


class DailyUsage(models.Model):
    """The daily cube of settled calls: day in the organization's time zone × product mix × month of billing.

    `line_calls` and `line_micros` are sums by the places of the mix's rates: how many calls had a line, and micros.
    """

    pk = models.CompositePrimaryKey("organization_id", "date", "mix_id", "billed_month")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    date = models.DateField()
    billed_month = models.DateField()
    mix = models.ForeignKey(ProductMix, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    calls = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    llm_tokens = models.BigIntegerField()
    micros = models.BigIntegerField()
    line_calls = ArrayField(models.BigIntegerField())
    line_micros = ArrayField(models.BigIntegerField())

    class Meta:
        ordering = ["organization", "date", "mix", "billed_month"]

    def __str__(self) -> str:
        return f"{self.date} {self.mix_id}: {self.micros}"


class DailyAgentUsage(models.Model):
    """Settled calls by day in the organization's time zone and agent."""

    pk = models.CompositePrimaryKey("organization_id", "date", "agent_id")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    date = models.DateField()
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    calls = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["organization", "date", "agent"]

    def __str__(self) -> str:
        return f"{self.date} {self.agent_id}: {self.micros}"


class HourlyUsage(models.Model):
    """Settled calls by the hour of the organization's time zone in which they started, named by its instant."""

    pk = models.CompositePrimaryKey("organization_id", "hour_at")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    hour_at = models.DateTimeField()
    calls = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["organization", "hour_at"]

    def __str__(self) -> str:
        return f"{self.hour_at}: {self.calls} calls"
