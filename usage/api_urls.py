"""The API's addresses under /api/v1/."""

from django.urls import path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from usage.api import (
    changes_view,
    completeness_view,
    conversation_views,
    description,
    event_views,
    import_views,
    retell_views,
    views,
)

_OPEN: dict[str, list[object]] = {"authentication_classes": [], "permission_classes": []}

urlpatterns = [
    path("calls", views.CallsView.as_view(), name="api-calls"),
    path("calls/<str:call_id>", views.CallView.as_view(), name="api-call"),
    path("completeness", completeness_view.CompletenessView.as_view(), name="api-completeness"),
    path("conversations/events", conversation_views.ConversationEventsView.as_view(), name="api-conversation-events"),
    path("conversations/<str:conversation_id>", conversation_views.ConversationView.as_view(), name="api-conversation"),
    path("events", event_views.EventsView.as_view(), name="api-events"),
    path("events/batch", event_views.EventBatchView.as_view(), name="api-events-batch"),
    path("imports", import_views.ImportsView.as_view(), name="api-imports"),
    path("imports/<uuid:import_id>", import_views.ImportView.as_view(), name="api-import"),
    path("imports/<uuid:import_id>/refusals", import_views.ImportRefusalsView.as_view(), name="api-import-refusals"),
    path("retell/webhook", retell_views.RetellWebhookView.as_view(), name="api-retell-webhook"),
    path("usage/changes", changes_view.ChangesView.as_view(), name="api-usage-changes"),
    path("usage", views.UsageView.as_view(), name="api-usage"),
    path(
        "schema",
        SpectacularJSONAPIView.as_view(**_OPEN, generator_class=description.Generator),
        name="api-schema",
    ),
    path(
        "docs",
        SpectacularSwaggerSplitView.as_view(**_OPEN, url_name="api-schema", template_name="usage/api_docs.html"),
        name="api-docs",
    ),
]
