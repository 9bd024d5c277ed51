"""Prices, calls and the sums over them, by noun; the rest of the code imports from here."""

from usage.models.backfills import Backfill, BackfillPart
from usage.models.batches import RecordedBatch
from usage.models.calls import Agent, Call, CallDetail, CallKey, CallKind, CallRange, ProductMix, UnratedCall
from usage.models.comparisons import Comparison
from usage.models.exports import Export
from usage.models.held_calls import HeldCall
from usage.models.imports import ImportJob, ImportRefusal
from usage.models.intake import Redelivery, Rejection, SequenceNote, SequenceRange
from usage.models.metadata import DailyMetadataUsage, MetadataKey
from usage.models.outcomes import (
    Billable,
    Conversation,
    ConversationEvent,
    ConversationEventDetail,
    DailyOutcomes,
    EventKind,
    OutcomeCharge,
    OutcomePrice,
    OutcomeRuleVersion,
    OutcomeType,
    ReplyKind,
)
from usage.models.price_proposals import PriceImpact, PriceProposal
from usage.models.prices import PRICE_LOCK, Component, PriceBook, PriceRate, PriceStamp, PriceVersion
from usage.models.revisions import CallRevision
from usage.models.rollups import DailyAgentUsage, DailyUsage, HourlyUsage
from usage.models.rule_proposals import RuleImpact, RuleProposal
from usage.models.what_ifs import WhatIf

__all__ = [
    "PRICE_LOCK",
    "Agent",
    "Backfill",
    "BackfillPart",
    "Billable",
    "Call",
    "CallDetail",
    "CallKey",
    "CallKind",
    "CallRange",
    "CallRevision",
    "Comparison",
    "Component",
    "Conversation",
    "ConversationEvent",
    "ConversationEventDetail",
    "DailyAgentUsage",
    "DailyMetadataUsage",
    "DailyOutcomes",
    "DailyUsage",
    "EventKind",
    "Export",
    "HeldCall",
    "HourlyUsage",
    "ImportJob",
    "ImportRefusal",
    "MetadataKey",
    "OutcomeCharge",
    "OutcomePrice",
    "OutcomeRuleVersion",
    "OutcomeType",
    "PriceBook",
    "PriceImpact",
    "PriceProposal",
    "PriceRate",
    "PriceStamp",
    "PriceVersion",
    "ProductMix",
    "RecordedBatch",
    "Redelivery",
    "Rejection",
    "ReplyKind",
    "RuleImpact",
    "RuleProposal",
    "SequenceNote",
    "SequenceRange",
    "UnratedCall",
    "WhatIf",
]
