"""Receipts for programs: the roots of an invoice and how far its file is, the file, and the proof of one call."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from django.http import FileResponse, HttpResponse
from msgspec import Meta
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from accounts import clock, queueing
from accounts.problems import Problem
from billing_portal.billing import receipt_tasks
from billing_portal.billing.invoice_api import InvoiceView
from billing_portal.billing.models import Invoice, Receipt, ReceiptFile
from billing_portal.billing.receipts import jobs, packing, proofs, scopes, sealing
from usage import calls
from usage.api import description, queries
from usage.api.keyed_views import KeyedView, answer, not_found, organization_of

Root = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, in hexadecimal.")]
_NOT_PROVED = "The call is on no final invoice yet. Ask again once the invoice of its month is final."


class ReceiptReport(msgspec.Struct, frozen=True):
    """The receipt of an invoice. While `state` is `waiting` or `writing`, ask again in some seconds."""

    invoice: Annotated[str, Meta(description="The invoice's number.")]
    state: Literal["waiting", "writing", "ready", "failed", "expired"]
    lines: Annotated[int, Meta(description="How many lines the file will have; 0 before that is known.")]
    lines_done: int
    failure: str
    file: Annotated[str | None, Meta(description="Where the ZIP is, once it is ready.")]
    expires_at: datetime | None
    usage_root: Annotated[Root | None, Meta(description="It stands at the foot of the invoice. Null until it is made.")]
    invoice_root: Root | None
    anchored_at: Annotated[datetime | None, Meta(description="When the usage root was put on the draft at Stripe.")]
    key: Annotated[str | None, Meta(description="The fingerprint of the key that signed the usage root.")]


class CallProof(msgspec.Struct, frozen=True):
    """That one call stands under the usage root of its invoice: for `verify_receipt.py --call`. Less than 4 kB."""

    call: Annotated[str, Meta(description="The call's line, canonical JSON as it was signed.")]
    prices: Annotated[str, Meta(description="What it was priced by, which the call names by its hash.")]
    usage: Annotated[str, Meta(description="The head, whose hash is the root.")]
    place: Annotated[int, Meta(ge=0, description="The call's place among the calls, from 0.")]
    path: Annotated[str, Meta(description="Its neighbours' hashes from the bottom up, 32 bytes each, in base64.")]
    signature: dict[str, str]
    keys: dict[str, str]


class ReceiptView(InvoiceView):
    """The receipt of an invoice."""

    @description.reads("get_receipt", query=queries.OrganizationQuery, answer=ReceiptReport, more=(409,))
    def get(self, request: Request, number: str) -> HttpResponse:
        """Say how far the file of an invoice's receipt is; the first to ask has it made."""
        organization = organization_of(request, queries.read(request.query_params, queries.OrganizationQuery))
        invoice = self.invoice(organization, number)
        try:
            file = jobs.ask(invoice, now=clock.now())
        except (sealing.NotFinal, scopes.NothingToProve) as refused:
            raise Problem(HTTPStatus.CONFLICT, "no-receipt", "This invoice has no receipt", str(refused)) from refused
        if file.is_under_way:
            queueing.on_commit(receipt_tasks.write_receipt, file.pk)
        return answer(_report(request, invoice, file))


class _Zip(BaseRenderer):
    media_type = "application/zip"
    format = "zip"
    charset = None

    def render(self, data: Any, *_: Any) -> Any:
        return data


class ReceiptFileView(InvoiceView):
    """The file of a receipt."""

    renderer_classes = [_Zip]

    @description.sends_file(
        "get_receipt_file", query=queries.OrganizationQuery, content_type="application/zip", more=(409,)
    )
    def get(self, request: Request, number: str) -> FileResponse:
        """Fetch the receipt of an invoice as a ZIP, for `verify_receipt.py`."""
        organization = organization_of(request, queries.read(request.query_params, queries.OrganizationQuery))
        invoice = self.invoice(organization, number)
        file = jobs.newest_ready(invoice)
        if file is None:
            text = f"Ask /api/v1/invoices/{number}/receipt to have it made, and come again when its state is ready."
            raise Problem(HTTPStatus.CONFLICT, "not-ready", "The file is not there yet, or not any more", text)
        return FileResponse(
            jobs.path_of(file).open("rb"),
            as_attachment=True,
            filename=jobs.name_of(invoice),
            content_type="application/zip",
            headers={"Cache-Control": "no-store"},
        )


class CallProofView(KeyedView):
    """The proof of one call."""

    @description.reads("prove_call", query=queries.OrganizationQuery, answer=CallProof, more=(409,))
    def get(self, request: Request, call_id: str) -> HttpResponse:
        """Prove that a call stands under the usage root of its invoice, and what it cost."""
        organization = organization_of(request, queries.read(request.query_params, queries.OrganizationQuery))
        call = None if "\x00" in call_id else calls.find(organization.pk, call_id)
        if call is None:
            raise not_found()
        try:
            return answer(CallProof(**proofs.of_call(call)))
        except proofs.NotProvedYet as refused:
            raise Problem(HTTPStatus.CONFLICT, "not-proved-yet", "The call is not proved yet", _NOT_PROVED) from refused
        except packing.ContentsChanged as changed:
            raise Problem(HTTPStatus.CONFLICT, "contents-changed", "The receipt differs", str(changed)) from changed


def _report(request: Request, invoice: Invoice, file: ReceiptFile) -> ReceiptReport:
    receipt = Receipt.objects.filter(invoice=invoice).select_related("usage_key").first()
    ready = file.state == ReceiptFile.State.READY
    return ReceiptReport(
        invoice=invoice.number,
        state=file.state,  # type: ignore[arg-type]
        lines=file.lines,
        lines_done=file.lines_done,
        failure=file.failure,
        file=request.build_absolute_uri(f"{request.path}.zip") if ready else None,
        expires_at=file.expires_at,
        usage_root=receipt.usage_root if receipt else None,
        invoice_root=(receipt.invoice_root or None) if receipt else None,
        anchored_at=receipt.anchored_at if receipt else None,
        key=receipt.usage_key.fingerprint if receipt else None,
    )
