"""Calls: what was recorded, what it costs, and in which order it was settled.

These are the tables with a row a call. They are partitioned (calls and their details by the month of their start, keys
by hash), which Django's schema editor cannot do: migration 0002 makes those four and their triggers in SQL, and the
models here only describe them. The organization leads every key, so that the schema can be distributed by it. They have
no foreign keys in the database, whose checks would cost more than the insert.
"""

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Organization
from usage.models.prices import PriceVersion


class CallKind(models.Model):
    """How calls began and ended, each combination once: a call's row holds its number instead of four texts."""

    call_type = models.CharField(max_length=16)
    direction = models.CharField(max_length=16, blank=True)
    status = models.CharField(max_length=24)
    disconnection_reason = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["call_type", "direction", "status", "disconnection_reason"], name="call_kind_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.call_type} {self.direction} {self.status}"


class Agent(models.Model):
    """An organization's agent as its calls name it: the vendor's reference, and the name it had."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    reference = models.CharField(max_length=128, blank=True)
    name = models.CharField(max_length=128, blank=True)

    class Meta:
        ordering = ["organization", "reference", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "reference", "name"], name="agent_is_unique"),
        ]

    def __str__(self) -> str:
        return self.name or self.reference


class ProductMix(models.Model):
    """A set of products under one price version: what calls of this mix cost for.

    `rate_ids` are the rates of its lines in the order of rating, the surcharge last; the amounts of a call stand in its
    `line_micros` at the same places. A mix without a version has no price yet.
    """

    price_version = models.ForeignKey(
        PriceVersion, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    products = ArrayField(models.CharField(max_length=64))
    products_key = models.UUIDField(help_text="The products' digest: their names may be too long for an index.")
    rate_ids = ArrayField(models.BigIntegerField())

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["price_version", "products_key"], name="product_mix_is_unique", nulls_distinct=False
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="product_mix_is_kept", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="price_version_is_used",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
                func="""
                    UPDATE usage_priceversion SET is_used = true WHERE id IN (
                        SELECT id FROM usage_priceversion
                        WHERE NOT is_used AND id IN (SELECT price_version_id FROM fresh)
                        ORDER BY id FOR NO KEY UPDATE
                    );
                    RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return " + ".join(self.products)


class CallKey(models.Model):
    """The vendor's id of a call, for ever: unique in the organization whatever time a second copy carries.

    `key` is the first half of the id's SHA-256, `digest` that of the content's: the same key with another digest is a
    conflict. It outlives the call, and says in which month to look for it.
    """

    pk = models.CompositePrimaryKey("organization_id", "key")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    key = models.UUIDField()
    digest = models.UUIDField()
    started_at = models.DateTimeField()

    class Meta:
        db_table = "usage_callkey"

    def __str__(self) -> str:
        return str(self.key)


class Call(models.Model):
    """One voice call as the vendor's platform logged it, and what it costs: facts, stored once, never edited.

    The charge stands in the call's row: `amount_micros` is the sum of `line_micros`, whose places the mix explains;
    both are empty until a price covers the call, and then they stay. Calls recorded together have consecutive ids.
    The key in the database is (organization, started_at, id); never look one up by its id alone.
    """

    id = models.BigIntegerField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    duration_ms = models.BigIntegerField()
    amount_micros = models.BigIntegerField(null=True)
    llm_tokens = models.IntegerField(help_text="Sum over all requests.")
    llm_requests = models.IntegerField()
    mix = models.ForeignKey(ProductMix, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    kind = models.ForeignKey(CallKind, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    revision = models.SmallIntegerField()
    call_id = models.CharField(max_length=128)
    line_micros = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "usage_call"
        ordering = ["-started_at", "-id"]

    def __str__(self) -> str:
        return self.call_id


class CallDetail(models.Model):
    """What is personal or free-form about a call, if anything is: a row of its own that can be erased."""

    id = models.BigIntegerField(primary_key=True, help_text="The call's.")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    started_at = models.DateTimeField()
    from_number = models.CharField(max_length=32)
    to_number = models.CharField(max_length=32)
    metadata = models.JSONField()
    extra = models.JSONField(help_text="Fields of the call object that the portal does not interpret.")

    class Meta:
        db_table = "usage_calldetail"

    def __str__(self) -> str:
        return f"detail of {self.id}"


class UnratedCall(models.Model):
    """A recorded call that no price covers yet, and what is missing; gone once it is rated."""

    id = models.BigIntegerField(primary_key=True, help_text="The call's.")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    started_at = models.DateTimeField()
    call_id = models.CharField(max_length=128)
    missing = ArrayField(models.CharField(max_length=64))
    noticed_at = models.DateTimeField()

    class Meta:
        db_table = "usage_unratedcall"
        ordering = ["noticed_at", "id"]

    def __str__(self) -> str:
        return f"{self.call_id}: {', '.join(self.missing)}"


class CallRange(models.Model):
    """Consecutive ids of one organization: calls that were rated together, in the order of their start.

    A range waits until settlement gives its calls their numbers, gapless in the organization, from `first_sequence` on,
    the month they are billed in, and the time zone that decided on their days; then it never changes. So settlement
    writes a row a range and none a call. `micros` is what its calls cost together; a new range begins
    where more than a quarter of an hour lies between two calls, so that its calls are found by their times.
    """

    pk = models.CompositePrimaryKey("organization_id", "first_id")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    starts_at = models.DateTimeField(help_text="When its first call started.")
    ends_at = models.DateTimeField(help_text="When its last call started.")
    micros = models.BigIntegerField()
    received_at = models.DateTimeField()
    first_sequence = models.BigIntegerField(null=True)
    billed_month = models.DateField(null=True, help_text="First day of the month it is billed in.")
    time_zone = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        ordering = ["organization", "first_sequence", "first_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "first_sequence"],
                condition=models.Q(first_sequence__isnull=False),
                name="call_range_sequence_is_unique",
            ),
            models.CheckConstraint(condition=models.Q(last_id__gte=models.F("first_id")), name="call_range_is_a_range"),
            models.CheckConstraint(
                condition=models.Q(first_sequence__isnull=True, billed_month__isnull=True, time_zone="")
                | models.Q(first_sequence__gt=0, billed_month__isnull=False) & ~models.Q(time_zone=""),
                name="call_range_is_settled_whole",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "starts_at", "first_id"],
                condition=models.Q(first_sequence__isnull=True),
                name="call_range_waiting",
            ),
            models.Index(
                fields=["organization", "billed_month", "first_sequence"],
                condition=models.Q(billed_month__isnull=False),
                name="call_range_by_month",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="call_range_is_kept", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="settled_call_range_is_kept",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__first_sequence__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first_id}–{self.last_id} of {self.organization_id}"
