"""The staff desk's pages, one module for each package they show. Django's autodiscovery imports this one."""

from billing_portal.support.desk import billing, ledger, mirror, people, support, usage

__all__ = ["billing", "ledger", "mirror", "people", "support", "usage"]
