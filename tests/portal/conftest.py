"""For pages that speak to Stripe: the sandbox, and customers of it."""

from tests.billing.conftest import buyer, sandbox_process, stripe

__all__ = ["buyer", "sandbox_process", "stripe"]
