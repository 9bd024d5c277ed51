"""Prices, calls and the sums over them, by noun; the rest of the code imports from here."""

from usage.models.batches import RecordedBatch
from usage.models.calls import Agent, Call, CallDetail, CallKey, CallKind, CallRange, ProductMix, UnratedCall
from usage.models.exports import Export
from usage.models.held_calls import HeldCall
from usage.models.imports import ImportJob, ImportRefusal
from usage.models.intake import Redelivery, Rejection, SequenceNote, SequenceRange
from usage.models.prices import PRICE_LOCK, Component, PriceBook, PriceRate, PriceStamp, PriceVersion
from usage.models.rollups import DailyAgentUsage, DailyUsage, HourlyUsage

__all__ = [
    "PRICE_LOCK",
    "Agent",
    "Call",
    "CallDetail",
    "CallKey",
    "CallKind",
    "CallRange",
    "Component",
    "DailyAgentUsage",
    "DailyUsage",
    "Export",
    "HeldCall",
    "HourlyUsage",
    "ImportJob",
    "ImportRefusal",
    "PriceBook",
    "PriceRate",
    "PriceStamp",
    "PriceVersion",
    "ProductMix",
    "RecordedBatch",
    "Redelivery",
    "Rejection",
    "SequenceNote",
    "SequenceRange",
    "UnratedCall",
]
