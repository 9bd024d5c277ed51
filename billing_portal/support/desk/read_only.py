"""Admin pages on which nothing can be changed, and the columns they share."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection, models
from django.http import HttpRequest
from django.utils.functional import cached_property

from billing_portal.billing import minor_units

_COUNTED_EXACTLY = 20_000


class EstimatingPaginator(Paginator):  # type: ignore[type-arg] # generic only to the type checker
    """Pages of a list; a big table that is listed whole is not counted, PostgreSQL's own estimate will do."""

    object_list: models.QuerySet[Any]

    @cached_property
    def count(self) -> int:
        if not self.object_list.query.where:
            with connection.cursor() as cursor:
                table = self.object_list.model._meta.db_table
                cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
                estimate: int = cursor.fetchone()[0]
            if estimate > _COUNTED_EXACTLY:
                return estimate
        return self.object_list.count()


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Look, search, filter; never add, change or delete.

    Big tables are neither counted nor sorted: newest first by the key, and no column of theirs can be sorted by.
    """

    ordering = ["-pk"]
    paginator = EstimatingPaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class ReadOnlyInline(admin.TabularInline):  # type: ignore[type-arg]
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
