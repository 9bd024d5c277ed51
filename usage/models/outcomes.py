"""Conversations: what happened in them, the rules that judge it, and what is charged for it."""

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from usage.models.prices import PriceBook


class OutcomeType(models.TextChoices):
    """The billable results of a conversation. Each has a Stripe meter of its own."""

    RESOLUTION = "resolution", "Resolutions"
    PROCEDURE_HANDOFF = "procedure_handoff", "Procedure handoffs"
    DISQUALIFICATION = "disqualification", "Disqualifications"
    QUALIFICATION = "qualification", "Qualifications"


class Billable(models.TextChoices):
    """What invoices have lines for: the components of calls and the types of outcomes. Each has a Stripe meter."""

    PLATFORM = "platform", "Platform"
    VOICE = "voice", "Voice engine"
    LLM = "llm", "Language model"
    TELEPHONY = "telephony", "Telephony"
    ADD_ON = "add_on", "Add-ons"
    PER_CALL = "per_call", "Per-call items"
    TOKEN_SURCHARGE = "token_surcharge", "Token surcharge"
    RESOLUTION = "resolution", "Resolutions"
    PROCEDURE_HANDOFF = "procedure_handoff", "Procedure handoffs"
    DISQUALIFICATION = "disqualification", "Disqualifications"
    QUALIFICATION = "qualification", "Qualifications"


class EventKind(models.IntegerChoices):
    """What can happen in a conversation, in the order that events of one instant have."""

    AI_ANSWERED = 0, "The agent answered"
    PROCEDURE_HANDOFF = 1, "A procedure ended in a handoff"
    QUALIFIED = 2, "Qualified"
    DISQUALIFIED = 3, "Disqualified"
    CUSTOMER_REPLIED = 4, "The customer replied"
    CUSTOMER_RATED = 5, "The customer rated"
    ESCALATED = 6, "Handed to a person"
    CLOSED = 7, "Closed"


class ReplyKind(models.TextChoices):
    """How the vendor understood a reply, what asks for help last: of two at one instant it counts."""

    AFFIRMATIVE = "affirmative", "It helped"
    OTHER = "other", "Something else"
    NEEDS_HELP = "needs_help", "Needs more help"


class OutcomeRuleVersion(models.Model):
    """The rules of a price book from `starts_at` on, for conversations that begin then; never edited once in force.

    `precedence` says which outcome counts where several apply. Ratings go from 1 to 5; null is never.
    """

    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="outcome_rules")
    number = models.PositiveIntegerField()
    starts_at = models.DateTimeField()
    window_seconds = models.PositiveIntegerField(default=86_400, help_text="Silence after which a resolution stands.")
    precedence = ArrayField(models.CharField(max_length=24, choices=OutcomeType))
    confirming_replies = ArrayField(models.CharField(max_length=16, choices=ReplyKind))
    reversing_replies = ArrayField(models.CharField(max_length=16, choices=ReplyKind))
    confirming_rating = models.PositiveSmallIntegerField(null=True, blank=True, help_text="This or more confirms.")
    reversing_rating = models.PositiveSmallIntegerField(null=True, blank=True, help_text="This or less reverses.")
    escalation_reverses = models.BooleanField(default=True)
    closing_decides = models.BooleanField(default=False)
    note = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField()
    is_used = models.BooleanField(default=False, editable=False, help_text="Some conversation is judged by it.")

    class Meta:
        ordering = ["book", "number"]
        constraints = [
            models.UniqueConstraint(fields=["book", "number"], name="outcome_rules_number_is_unique"),
            models.UniqueConstraint(fields=["book", "starts_at"], name="outcome_rules_start_is_unique"),
            models.CheckConstraint(condition=models.Q(window_seconds__gt=0), name="outcome_rules_window_is_positive"),
            models.CheckConstraint(
                condition=models.Q(confirming_rating=None)
                | models.Q(reversing_rating=None)
                | models.Q(confirming_rating__gt=models.F("reversing_rating")),
                name="outcome_rules_rating_says_one_thing",
            ),
        ]
        triggers = [
            pgtrigger.Protect(
                name="used_outcome_rules_are_kept",
                operation=pgtrigger.Update | pgtrigger.Delete,
                condition=pgtrigger.Q(old__is_used=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.book} outcomes v{self.number}"


class OutcomePrice(models.Model):
    """What one outcome costs under a version of the rules, in micros of the book's currency."""

    version = models.ForeignKey(OutcomeRuleVersion, on_delete=models.CASCADE, related_name="prices")
    outcome = models.CharField(max_length=24, choices=OutcomeType)
    price_micros = models.BigIntegerField()

    class Meta:
        ordering = ["version", "outcome"]
        constraints = [
            models.UniqueConstraint(fields=["version", "outcome"], name="outcome_price_is_one_a_type"),
            models.CheckConstraint(condition=models.Q(price_micros__gte=0), name="outcome_price_is_not_negative"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="used_outcome_price_is_kept",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete,
                func="""
                    IF EXISTS (
                        SELECT FROM usage_outcomeruleversion
                        WHERE is_used AND (
                            (TG_OP <> 'INSERT' AND id = OLD.version_id) OR (TG_OP <> 'DELETE' AND id = NEW.version_id)
                        )
                    ) THEN
                        RAISE EXCEPTION 'The prices of rules by which conversations were judged are kept.';
                    END IF;
                    RETURN COALESCE(NEW, OLD);
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.outcome}: {self.price_micros}"


class Conversation(models.Model):
    """One conversation, and what its events come to so far: a cache of `judging.judge` over them.

    `due_at` is when its outcome is to be charged, null when it is, or when there is none. `charge` is the one that
    stands, `revision` counts them.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    reference = models.CharField(max_length=128, help_text="The vendor's id.")
    began_at = models.DateTimeField()
    last_event_at = models.DateTimeField()
    agent = models.CharField(max_length=128, blank=True, default="")
    channel = models.CharField(max_length=32, blank=True, default="")
    rules = models.ForeignKey(
        OutcomeRuleVersion,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    outcome = models.CharField(max_length=24, choices=OutcomeType, blank=True, default="")
    reason = models.CharField(max_length=16, blank=True, default="")
    decided_at = models.DateTimeField(null=True)
    decided_by = models.UUIDField(null=True)
    reversed_by = models.UUIDField(null=True)
    due_at = models.DateTimeField(null=True)
    charge_id = models.BigIntegerField(null=True)
    revision = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["organization", "-began_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="conversation_is_its_organizations"),
            models.UniqueConstraint(fields=["organization", "reference"], name="conversation_is_known_once"),
            models.CheckConstraint(
                condition=models.Q(outcome="", decided_at=None, due_at=None)
                | (~models.Q(outcome="") & models.Q(decided_at__isnull=False)),
                name="conversation_outcome_has_an_instant",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-began_at", "-id"], name="conversation_by_start"),
            models.Index(
                fields=["organization", "due_at", "id"],
                condition=models.Q(due_at__isnull=False),
                name="conversation_to_charge",
            ),
            models.Index(fields=["id"], condition=models.Q(rules=None), name="conversation_without_rules"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="outcome_rules_are_used",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Update,
                referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
                func="""
                    UPDATE usage_outcomeruleversion SET is_used = true WHERE id IN (
                        SELECT id FROM usage_outcomeruleversion
                        WHERE NOT is_used AND id IN (SELECT rules_id FROM fresh)
                        ORDER BY id FOR NO KEY UPDATE
                    );
                    RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return self.reference


class ConversationEvent(models.Model):
    """Something that happened in a conversation: a fact, stored once, never edited.

    `key` is the first half of the SHA-256 of the vendor's id, `digest` that of the content. `value` is the kind of
    reply, the rating, or 1 for a greeting.
    """

    pk = models.CompositePrimaryKey("organization_id", "key")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    key = models.UUIDField()
    conversation_id = models.BigIntegerField()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    kind = models.SmallIntegerField(choices=EventKind)
    value = models.SmallIntegerField(default=0)
    digest = models.UUIDField()
    event_id = models.CharField(max_length=128)

    class Meta:
        ordering = ["organization", "occurred_at", "kind", "value", "key"]
        indexes = [
            models.Index(fields=["organization", "conversation_id", "occurred_at"], name="conversation_event_in_order"),
        ]
        triggers = [pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return self.event_id


class ConversationEventDetail(models.Model):
    """What an event said beyond what is judged. It may be personal, and can be erased."""

    pk = models.CompositePrimaryKey("organization_id", "key")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    key = models.UUIDField()
    extra = models.JSONField()

    class Meta:
        ordering = ["organization", "key"]

    def __str__(self) -> str:
        return str(self.key)


class OutcomeCharge(models.Model):
    """A final outcome to be paid for, or the reversal of one: an item of the ledger's settlement.

    Settled it has a number, a month, what it cost in money and, where a bucket gave a unit for it, which; from then on
    it never changes. One withdrawn before that was never charged.
    """

    class Kind(models.TextChoices):
        CHARGE = "charge", "Charge"
        REVERSAL = "reversal", "Reversal"

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    conversation = models.ForeignKey(
        Conversation, on_delete=models.PROTECT, related_name="charges", db_index=False, db_constraint=False
    )
    revision = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=Kind)
    outcome = models.CharField(max_length=24, choices=OutcomeType)
    reason = models.CharField(max_length=16)
    rules = models.ForeignKey(
        OutcomeRuleVersion, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    price_micros = models.BigIntegerField(help_text="The list price.")
    decided_at = models.DateTimeField()
    created_at = models.DateTimeField()
    reverses = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, related_name="reversals", db_index=False, db_constraint=False
    )
    withdrawn_at = models.DateTimeField(null=True)
    sequence = models.BigIntegerField(null=True)
    billed_month = models.DateField(null=True)
    day = models.DateField(null=True, help_text="When it was decided, in the organization's zone of then.")
    amount_micros = models.BigIntegerField(null=True, help_text="What it cost in money; 0 where a bucket paid.")
    bucket_id = models.BigIntegerField(null=True, help_text="The ledger's bucket that gave a unit, or got it back.")

    class Meta:
        ordering = ["organization", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="outcome_charge_is_its_organizations"),
            SameOrganization(field="conversation", name="outcome_charge_is_of_its_own_conversation"),
            SameOrganization(field="reverses", name="outcome_charge_reverses_its_own"),
            models.UniqueConstraint(
                fields=["organization", "conversation", "revision", "kind"], name="outcome_charge_is_one_a_revision"
            ),
            # Partial, so that no other row pays for them.
            models.UniqueConstraint(
                fields=["organization", "sequence"],
                condition=models.Q(sequence__isnull=False),
                name="outcome_charge_number_is_unique",
            ),
            models.UniqueConstraint(
                fields=["organization", "reverses"],
                condition=models.Q(reverses__isnull=False),
                name="outcome_charge_is_reversed_once",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="charge", reverses=None) | models.Q(kind="reversal", reverses__isnull=False),
                name="outcome_reversal_names_its_charge",
            ),
            models.CheckConstraint(
                condition=models.Q(sequence=None, billed_month=None, amount_micros=None, bucket_id=None)
                | models.Q(sequence__isnull=False, billed_month__isnull=False, amount_micros__gte=0, withdrawn_at=None),
                name="outcome_charge_is_settled_whole",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "id"],
                condition=models.Q(sequence=None, withdrawn_at=None),
                name="outcome_charge_waiting",
            ),
            models.Index(
                fields=["organization", "billed_month", "sequence"],
                condition=models.Q(sequence__isnull=False),
                name="outcome_charge_by_month",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="never_deleted", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="settled_or_withdrawn_once",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                func="""
                    IF OLD.sequence IS NOT NULL OR OLD.withdrawn_at IS NOT NULL
                       OR (OLD.id, OLD.organization_id, OLD.conversation_id, OLD.revision, OLD.kind, OLD.outcome,
                           OLD.reason, OLD.rules_id, OLD.price_micros, OLD.decided_at, OLD.created_at, OLD.reverses_id)
                       IS DISTINCT FROM
                          (NEW.id, NEW.organization_id, NEW.conversation_id, NEW.revision, NEW.kind, NEW.outcome,
                           NEW.reason, NEW.rules_id, NEW.price_micros, NEW.decided_at, NEW.created_at, NEW.reverses_id)
                    THEN
                        RAISE EXCEPTION 'Outcome charge % is settled or withdrawn once, nothing else changes.', OLD.id;
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.outcome} of {self.conversation_id}"


class DailyOutcomes(models.Model):
    """Settled outcomes of one day, type, rule version and way of funding: how many, and what they cost.

    Reversals are counted apart. Derived; kept when charges are settled, and rebuilt to the same rows.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    billed_month = models.DateField()
    outcome = models.CharField(max_length=24, choices=OutcomeType)
    rules = models.ForeignKey(
        OutcomeRuleVersion, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    kind = models.CharField(max_length=8, choices=OutcomeCharge.Kind)
    reason = models.CharField(max_length=16)
    by_bucket = models.BooleanField()
    outcomes = models.BigIntegerField()
    amount_micros = models.BigIntegerField()

    class Meta:
        ordering = ["organization", "day", "outcome", "kind", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "day", "billed_month", "outcome", "rules", "kind", "reason", "by_bucket"],
                name="daily_outcomes_are_one_row",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "billed_month"], name="daily_outcomes_by_month"),
        ]

    def __str__(self) -> str:
        return f"{self.outcomes} {self.outcome} on {self.day}"
