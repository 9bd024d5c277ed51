"""The models, by noun. Each module keeps one; the rest of the code imports from here."""

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
from billing_portal.ledger.models.checks import Check, Finding
from billing_portal.ledger.models.welcome_claims import WelcomeClaim
from billing_portal.ledger.models.write_offs import WriteOff, WriteOffLine

__all__ = [
    "Account",
    "Burn",
    "Check",
    "Entry",
    "Finding",
    "Grant",
    "Period",
    "Settlement",
    "SettlementLine",
    "Transaction",
    "WelcomeClaim",
    "WriteOff",
    "WriteOffLine",
]
