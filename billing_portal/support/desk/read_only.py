"""Admin pages on which nothing can be changed, and the columns they share."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from billing_portal.billing import minor_units


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """Look, search, filter; never add, change or delete. Big tables are not counted."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class ReadOnlyInline(admin.TabularInline[Any, Any]):
    """Rows under a page, to look at."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


def amount(micros: int | None, currency: str) -> str:
    """Return micros as an exact amount: at least two decimals, no more than it has."""
    if micros is None:
        return "–"
    whole, fraction = divmod(abs(micros), 1_000_000)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{'−' if micros < 0 else ''}{whole:,}.{decimals} {currency}"


def micros_column(field: str, title: str) -> Callable[[Any, Any], str]:
    """Return a column that shows an amount field in micros; the row knows its currency."""

    @admin.display(description=title, ordering=field)
    def column(self: Any, row: Any) -> str:
        return amount(getattr(row, field), row.currency)

    return column


def minor_column(field: str, title: str) -> Callable[[Any, Any], str]:
    """Return a column that shows an amount field in Stripe's minor units; the row knows its currency."""

    @admin.display(description=title, ordering=field)
    def column(self: Any, row: Any) -> str:
        minor = getattr(row, field)
        return "–" if minor is None else amount(minor_units.to_micros(minor, row.currency), row.currency)

    return column
