"""The staff desk's pages, one module for each package they show. Django's autodiscovery imports this one."""

from billing_portal.support.desk import (
    backfills,
    billing,
    held_calls,
    imports,
    ledger,
    mirror,
    offers,
    people,
    support,
    tax,
    usage,
)

__all__ = [
    "backfills",
    "billing",
    "held_calls",
    "imports",
    "ledger",
    "mirror",
    "offers",
    "people",
    "support",
    "tax",
    "usage",
]
