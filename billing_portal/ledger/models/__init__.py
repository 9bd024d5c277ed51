"""The models, by noun. Each module keeps one; the rest of the code imports from here."""

from billing_portal.ledger.models.alerts import Alert, AlertSettings
from billing_portal.ledger.models.books import (
    Account,
    Burn,
    Entry,
    Grant,
    Period,
    Settlement,
    SettlementLine,
    Transaction,
)
from billing_portal.ledger.models.bucket_claims import BucketClaim
from billing_portal.ledger.models.buckets import Bucket, BucketEntry
from billing_portal.ledger.models.checks import Check, Finding
from billing_portal.ledger.models.discounts import DISCOUNT, OFF_THE_INVOICE, DiscountLine, DiscountPosting
from billing_portal.ledger.models.give_backs import GiveBack, SetOff
from billing_portal.ledger.models.limits import MonthSpend, SpendLimit
from billing_portal.ledger.models.reservations import Direction, Refusal, RefusalHour, Reservation
from billing_portal.ledger.models.welcome_claims import WelcomeClaim
from billing_portal.ledger.models.write_offs import WriteOff, WriteOffLine

__all__ = [
    "DISCOUNT",
    "OFF_THE_INVOICE",
    "Account",
    "Alert",
    "AlertSettings",
    "Bucket",
    "BucketClaim",
    "BucketEntry",
    "Burn",
    "Check",
    "Direction",
    "DiscountLine",
    "DiscountPosting",
    "Entry",
    "Finding",
    "GiveBack",
    "Grant",
    "MonthSpend",
    "Period",
    "Refusal",
    "RefusalHour",
    "Reservation",
    "SetOff",
    "Settlement",
    "SettlementLine",
    "SpendLimit",
    "Transaction",
    "WelcomeClaim",
    "WriteOff",
    "WriteOffLine",
]
