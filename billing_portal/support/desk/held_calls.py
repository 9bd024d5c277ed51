"""What programs sent and the recorder would not take, on the staff desk."""

import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import clock
from usage import retell
from usage.models import HeldCall

_SHOWN = ["call_id", "organization", "state", "field", "reason", "is_analyzed", "received_at", "due_at"]
_LONGEST_SHOWN = 20_000


@admin.register(HeldCall)
class HeldCallAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic only to the type checker
    """Calls of webhooks that are not recorded: those that wait for their analysis, and the refused ones with why.

    Of a refused call it can be said whose it is, and that it shall be tried again; or it is deleted and never billed.
    """

    list_display = [*_SHOWN]
    list_filter = ["state", "is_analyzed"]
    search_fields = ["call_id__exact", "organization__exact"]
    search_help_text = "A call id or an organization's reference, whole"
    ordering = ["-pk"]
    fields = [*_SHOWN, "attempts", "call"]
    actions = ["record_again"]

    def get_readonly_fields(self, request: HttpRequest, obj: HeldCall | None = None) -> list[str]:
        """Nothing can be changed but whose call it is."""
        return [field for field in (*_SHOWN, "attempts", "call") if field != "organization"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: HeldCall | None = None) -> bool:
        return _is_refused(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: HeldCall | None = None) -> bool:
        return _is_refused(obj) and super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Calls are deleted one by one, never by a ticked list that may hold some that only wait."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @admin.display(description="Call object")
    def call(self, held: HeldCall) -> str:
        return json.dumps(json.loads(bytes(held.body)), indent=1)[:_LONGEST_SHOWN]

    @admin.action(description="Record the selected refused calls again")
    def record_again(self, request: HttpRequest, held: QuerySet[HeldCall]) -> None:
        now = clock.now()
        ids = list(held.values_list("pk", flat=True))
        tried = retell.try_again(held, now=now)
        retell.record_due(now=now)
        left = HeldCall.objects.filter(pk__in=ids, state=HeldCall.State.REFUSED).count()
        messages.success(request, f"{tried} calls were tried again; {left} of those selected are still refused.")


def _is_refused(held: HeldCall | None) -> bool:
    return held is None or held.state == HeldCall.State.REFUSED
