"""The API's addresses whose answers reach from calls to payments."""

from django.urls import path

from billing_portal.billing import conversation_api, export_api, invoice_api, receipt_api, trace_api

urlpatterns = [
    path("calls.csv", export_api.CallsCsvView.as_view(), name="api-calls-csv"),
    path("calls.jsonl", export_api.CallsJsonlView.as_view(), name="api-calls-jsonl"),
    path("calls/<str:call_id>/proof", receipt_api.CallProofView.as_view(), name="api-call-proof"),
    path("calls/<str:call_id>/trace", trace_api.CallTraceView.as_view(), name="api-call-trace"),
    path(
        "conversations/<str:conversation_id>/billing",
        conversation_api.ConversationBillingView.as_view(),
        name="api-conversation-billing",
    ),
    path("invoices/<str:number>/amount-due", invoice_api.AmountDueView.as_view(), name="api-amount-due"),
    path("invoices/<str:number>/receipt", receipt_api.ReceiptView.as_view(), name="api-receipt"),
    path("invoices/<str:number>/receipt.zip", receipt_api.ReceiptFileView.as_view(), name="api-receipt-file"),
]
