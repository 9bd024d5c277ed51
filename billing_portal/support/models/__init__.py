"""The models, by noun. Each module keeps one; the rest of the code imports from here."""

from billing_portal.support.models.staff_actions import StaffAction

__all__ = ["StaffAction"]
