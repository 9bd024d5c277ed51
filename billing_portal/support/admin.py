"""Where Django's autodiscovery looks for pages of the desk; they live in `desk`."""

from billing_portal.support import desk

__all__ = ["desk"]
