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

__all__ = [
    "Account",
    "Burn",
    "Entry",
    "Grant",
    "Period",
    "Settlement",
    "SettlementLine",
    "Transaction",
]
