"""Admin pages on which nothing can be changed, and the columns they share."""

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection, models
from django.http import HttpRequest
from django.utils.functional import cached_property

from billing_portal.billing import minor_units
from billing_portal.support.amounts import amount

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


class _MajorUnits:
    """Show amounts of a row, whichever its unit, in the currency's major unit."""

    model: type[models.Model]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields, amounts = super().get_fields(request, obj), self._amounts()  # type: ignore[misc]
        return list(dict.fromkeys(amounts.get(field, field) for field in fields))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*super().get_readonly_fields(request, obj), *self._amounts().values()]  # type: ignore[misc]

    def _amounts(self) -> dict[Any, Callable[[Any], str]]:
        return {field.name: shown(field.name) for field in self.model._meta.fields if _is_amount(field)}


class ReadOnlyAdmin(_MajorUnits, admin.ModelAdmin):  # type: ignore[type-arg]
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


class ReadOnlyInline(_MajorUnits, admin.TabularInline):  # type: ignore[type-arg]
    """Rows under a page, to look at."""

    extra = 0
    can_delete = False
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """Read the organizations along: amounts are in their currency where a row names none."""
        rows = super().get_queryset(request)
        names = {field.name for field in self.model._meta.fields}
        return rows.select_related("organization") if "organization" in names else rows

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


@functools.cache
def shown(field: str) -> Callable[[Any], str]:
    """Return a column that shows a row's amount: `…_micros` or Stripe's `…_minor`."""
    name, _, unit = field.rpartition("_")

    @admin.display(description=(name or "exact amount").replace("_", " ").capitalize(), ordering=field)
    def column(row: Any) -> str:
        value = getattr(row, field)
        currency = getattr(row, "currency", None) or row.organization.currency
        return amount(
            minor_units.to_micros(value, currency) if unit == "minor" and value is not None else value, currency
        )

    column.__name__ = field
    return column


def _is_amount(field: Any) -> bool:
    return isinstance(field, models.BigIntegerField) and field.name.rpartition("_")[2] in {"micros", "minor"}
