"""Facts about calls, the prices in force, what each call costs, and the sums over them.

The organization leads every key, so that the schema can be distributed by it.
"""

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models

from accounts.models import Organization

_PRICES_CHANGED = """
    PERFORM pg_advisory_xact_lock({lock});
    INSERT INTO usage_pricestamp (id, stamp) VALUES (1, gen_random_uuid())
    ON CONFLICT (id) DO UPDATE SET stamp = excluded.stamp;
    RETURN NULL;
"""


class Component(models.TextChoices):
    """One priced side of a call. Each has a Stripe meter of its own."""

    PLATFORM = "platform", "Platform"
    VOICE = "voice", "Voice engine"
    LLM = "llm", "Language model"
    TELEPHONY = "telephony", "Telephony"
    ADD_ON = "add_on", "Add-ons"
    PER_CALL = "per_call", "Per-call items"
    TOKEN_SURCHARGE = "token_surcharge", "Token surcharge"


# Held shared by every transaction that prices calls, and alone by one that changes prices: so no charge is made from
# prices that were being edited.
PRICE_LOCK = 7_301_001


def _stamp(name: str, operation: pgtrigger.Operation) -> pgtrigger.Trigger:
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=operation,
        func=_PRICES_CHANGED.format(lock=PRICE_LOCK),
    )


class PriceStamp(models.Model):
    """One row that names the present state of all prices: every change gives it another value, also one rolled back."""

    stamp = models.UUIDField()

    def __str__(self) -> str:
        return str(self.stamp)


class PriceBook(models.Model):
    """A named list of prices in one currency: public, or one organization's own."""

    reference = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    currency = models.CharField(max_length=3)
    organization = models.OneToOneField(
        Organization, null=True, blank=True, on_delete=models.PROTECT, related_name="own_price_book"
    )
    is_default = models.BooleanField(default=False, help_text="The public book of its currency.")

    class Meta:
        ordering = ["reference", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["currency"],
                condition=models.Q(is_default=True),
                name="price_book_is_one_default_per_currency",
            ),
            models.CheckConstraint(
                condition=models.Q(is_default=False) | models.Q(organization__isnull=True),
                name="price_book_default_is_public",
            ),
        ]
        triggers = [_stamp("price_books_changed", pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return self.name


_PRICES_UPDATED = pgtrigger.UpdateOf(  # type: ignore[no-untyped-call]
    "book_id", "number", "starts_at", "grace_ms", "free_ms", "token_threshold"
)


class PriceVersion(models.Model):
    """The rates of a book from `starts_at` on; never edited once in force.

    `grace_ms`: a shorter call costs nothing. `free_ms`: this much of every call is free.
    `token_threshold`: mean tokens per request above which LLM time is scaled up, the surplus as a
    surcharge; 0 is never.
    """

    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    starts_at = models.DateTimeField()
    grace_ms = models.PositiveIntegerField(default=0)
    free_ms = models.PositiveIntegerField(default=0)
    token_threshold = models.PositiveIntegerField(default=3500)
    note = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField()
    is_used = models.BooleanField(default=False, editable=False, help_text="Some charge rests on it.")

    class Meta:
        ordering = ["book", "number"]
        constraints = [
            models.UniqueConstraint(fields=["book", "number"], name="price_version_number_is_unique"),
            models.UniqueConstraint(fields=["book", "starts_at"], name="price_version_start_is_unique"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="used_price_version_is_kept",
                operation=pgtrigger.Update | pgtrigger.Delete,
                condition=pgtrigger.Q(old__is_used=True),
            ),
            # The first charge marks a version as used, which changes no price.
            _stamp(
                "price_versions_changed",
                pgtrigger.Insert | _PRICES_UPDATED | pgtrigger.Delete,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.book} v{self.number}"


class PriceRate(models.Model):
    """What one product costs: `rate_micros` for each unit, its quantity rounded up as the fields say."""

    class Unit(models.TextChoices):
        MINUTE = "minute", "per minute"
        SECOND = "second", "per second"
        CALL = "call", "per call"
        THOUSAND_TOKENS = "thousand_tokens", "per 1,000 tokens"
        SURCHARGE = "surcharge", "at the language model's rate"

    version = models.ForeignKey(PriceVersion, on_delete=models.PROTECT, related_name="rates")
    component = models.CharField(max_length=24, choices=Component)
    product = models.CharField(max_length=64)
    label = models.CharField(max_length=80, blank=True, default="")
    unit = models.CharField(max_length=24, choices=Unit)
    rate_micros = models.BigIntegerField()
    minimum_ms = models.PositiveIntegerField(default=0)
    increment_ms = models.PositiveIntegerField(default=1000)

    class Meta:
        ordering = ["version", "component", "product"]
        constraints = [
            models.UniqueConstraint(fields=["version", "product"], name="price_rate_product_is_unique"),
            models.CheckConstraint(condition=models.Q(rate_micros__gte=0), name="price_rate_is_not_negative"),
            models.CheckConstraint(condition=models.Q(increment_ms__gt=0), name="price_rate_increment_is_positive"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="used_price_rate_is_kept",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete,
                func="""
                    IF EXISTS (
                        SELECT FROM usage_priceversion
                        WHERE is_used AND (
                            (TG_OP <> 'INSERT' AND id = OLD.version_id) OR (TG_OP <> 'DELETE' AND id = NEW.version_id)
                        )
                    ) THEN
                        RAISE EXCEPTION 'The rates of a price version that charges rest on are kept.';
                    END IF;
                    RETURN COALESCE(NEW, OLD);
                """,
            ),
            _stamp("price_rates_changed", pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.product}: {self.rate_micros} {self.get_unit_display()}"


class Call(models.Model):
    """One voice call as the vendor's platform logged it: a fact, stored once, never edited.

    `products` are the priced things it used, by the vendor's names; what component each is, the price version says.
    `digest` is the SHA-256 of the canonical facts: the same id with another digest is a conflict.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    call_id = models.CharField(max_length=128)
    revision = models.PositiveSmallIntegerField(default=1)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    duration_ms = models.BigIntegerField()
    call_type = models.CharField(max_length=16)
    direction = models.CharField(max_length=16, blank=True)
    status = models.CharField(max_length=24)
    disconnection_reason = models.CharField(max_length=64, blank=True)
    agent_id = models.CharField(max_length=128, blank=True)
    agent_name = models.CharField(max_length=128, blank=True)
    products = ArrayField(models.CharField(max_length=64))
    llm_tokens = models.BigIntegerField(default=0, help_text="Sum over all requests.")
    llm_requests = models.PositiveIntegerField(default=0)
    digest = models.BinaryField(max_length=32)
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["-started_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "call_id", "revision"], name="call_is_recorded_once"),
            models.CheckConstraint(condition=models.Q(duration_ms__gte=0), name="call_duration_is_not_negative"),
            models.CheckConstraint(
                condition=models.Q(ended_at__isnull=True) | models.Q(ended_at__gte=models.F("started_at")),
                name="call_ends_after_it_starts",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "started_at", "id"], name="call_by_start"),
        ]
        triggers = [
            pgtrigger.Protect(name="call_is_kept", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return self.call_id


class CallDetail(models.Model):
    """What is personal or free-form about a call, in a row of its own that can be erased."""

    call = models.OneToOneField(Call, on_delete=models.PROTECT, primary_key=True, related_name="detail")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    from_number = models.CharField(max_length=32, blank=True, default="")
    to_number = models.CharField(max_length=32, blank=True, default="")
    metadata = models.JSONField(default=dict)
    extra = models.JSONField(default=dict, help_text="Fields of the call object that the portal does not interpret.")

    def __str__(self) -> str:
        return f"detail of {self.call_id}"


class UnratedCall(models.Model):
    """A recorded call that no price covers yet, and what is missing; gone once it is rated."""

    call = models.OneToOneField(Call, on_delete=models.PROTECT, primary_key=True, related_name="unrated")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    missing = ArrayField(models.CharField(max_length=64))
    noticed_at = models.DateTimeField()

    class Meta:
        ordering = ["noticed_at", "call_id"]
        indexes = [GinIndex(fields=["missing"], name="unrated_by_missing")]

    def __str__(self) -> str:
        return f"{self.call_id}: {', '.join(self.missing)}"


class Charge(models.Model):
    """What one call costs under one price version; zero charges have a row too.

    The lines stand in three parallel arrays, in the order of rating: the rate, the billable quantity (milliseconds,
    calls or tokens, by the rate's unit) and the micros. Their sum is `amount_micros`.
    `started_at` is the call's. Settlement gives each charge its `sequence`, gapless in the organization, the month
    it is billed in, and the date of its call in the organization's zone at that time; after that it never changes.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    call = models.OneToOneField(Call, on_delete=models.PROTECT, related_name="charge")
    price_version = models.ForeignKey(PriceVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    started_at = models.DateTimeField()
    currency = models.CharField(max_length=3)
    amount_micros = models.BigIntegerField()
    rate_ids = ArrayField(models.BigIntegerField())
    quantities = ArrayField(models.BigIntegerField())
    line_micros = ArrayField(models.BigIntegerField())
    rated_at = models.DateTimeField()
    sequence = models.BigIntegerField(null=True)
    billed_month = models.DateField(null=True, help_text="First day of the month it is billed in.")
    date = models.DateField(null=True, help_text="Day of the call, in the organization's time zone.")

    class Meta:
        ordering = ["organization", "sequence", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "sequence"], name="charge_sequence_is_unique"),
            models.CheckConstraint(
                condition=models.Q(sequence__isnull=True, billed_month__isnull=True, date__isnull=True)
                | models.Q(sequence__gt=0, billed_month__isnull=False, date__isnull=False),
                name="charge_is_settled_whole",
            ),
            models.CheckConstraint(condition=models.Q(amount_micros__gte=0), name="charge_is_not_negative"),
        ]
        indexes = [
            models.Index(
                fields=["organization", "started_at", "id"],
                condition=models.Q(sequence__isnull=True),
                name="charge_waiting_for_settlement",
            ),
            models.Index(fields=["organization", "billed_month", "sequence"], name="charge_by_month"),
        ]
        triggers = [
            pgtrigger.Protect(name="charge_is_kept", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="settled_charge_is_kept",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__sequence__isnull=False)
                | pgtrigger.Q(old__amount_micros__df=pgtrigger.F("new__amount_micros"))
                | pgtrigger.Q(old__line_micros__df=pgtrigger.F("new__line_micros"))
                | pgtrigger.Q(old__call_id__df=pgtrigger.F("new__call_id"))
                | pgtrigger.Q(old__organization_id__df=pgtrigger.F("new__organization_id")),
            ),
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
        return f"{self.amount_micros} {self.currency} for {self.call_id}"


class DailyUsage(models.Model):
    """The daily cube of settled charges: day in the organization's zone × component × product.

    `calls` counts charge lines; `quantity` is in the unit of the rate (milliseconds, calls or tokens).
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    billed_month = models.DateField()
    date = models.DateField()
    component = models.CharField(max_length=24, choices=Component)
    product = models.CharField(max_length=64)
    calls = models.BigIntegerField()
    quantity = models.BigIntegerField()
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["organization", "date", "component", "product"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "date", "component", "product", "billed_month"],
                name="daily_usage_is_one_row_a_cell",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.date} {self.product}: {self.micros}"


class QuarterHourUsage(models.Model):
    """Totals of settled charges by the quarter of an hour in which the call started.

    Every time zone's days and hours begin at such a quarter, so totals of any day and hour can be read from them.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    quarter_at = models.DateTimeField()
    calls = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["organization", "quarter_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "quarter_at"], name="quarter_hour_usage_is_one_row_a_quarter"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quarter_at}: {self.calls} calls"
