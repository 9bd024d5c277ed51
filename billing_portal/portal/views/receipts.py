"""Receipts: what an invoice rests on, to be fetched and verified; the proof of one call; the keys and the verifier."""

from pathlib import Path
from uuid import UUID

from django.contrib import messages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, queueing
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import interims, receipt_tasks
from billing_portal.billing.models import Invoice
from billing_portal.billing.receipts import canonical, jobs, keys, packing, proofs, scopes, sealing, verify_receipt
from billing_portal.portal import discount_words, invoice_party, receipt_page
from usage import calls

VERIFIER = Path(verify_receipt.__file__)


@never_cache
@require_GET
@organization_view(Permission.VIEW_BILLING)
def receipt(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show what the receipt of an invoice proves and how to verify it; htmx asks for its file alone."""
    shown = receipt_page.of(_invoice(request, invoice))
    context = {"shown": shown, "invoice": shown.invoice}
    if request.htmx:
        return render(request, "portal/receipt.html#file", context)
    if shown.receipt is not None:
        context["picture"] = receipt_page.picture(shown.receipt.usage_root)
        context["interim"] = interims.of_invoice(shown.invoice)
        context["discounts"] = discount_words.of_invoice(shown.invoice, shown.receipt.month)
        context["party"] = invoice_party.of(shown.invoice)
    return render(request, "portal/receipt.html", context | {"published": keys.published()})


@require_POST
@organization_view(Permission.VIEW_BILLING)
def receipt_new(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Have the file of a receipt made, once for all who ask."""
    found = _invoice(request, invoice)
    try:
        file = jobs.ask(found, now=clock.now())
    except (sealing.NotFinal, scopes.NothingToProve) as refused:
        messages.error(request, str(refused))
    else:
        if file.is_under_way:
            queueing.on_commit(receipt_tasks.write_receipt, file.pk)
    return redirect("receipt", request.organization.public_id, found.public_id)


@never_cache
@require_GET
@organization_view(Permission.VIEW_BILLING)
def receipt_file(request: OrganizationRequest, invoice: UUID) -> HttpResponseBase:
    """Answer the newest file of a receipt."""
    found = _invoice(request, invoice)
    file = jobs.newest_ready(found)
    if file is None:
        messages.error(request, "The file is not there, or not any more. Have it made again.")
        return redirect("receipt", request.organization.public_id, found.public_id)
    return FileResponse(
        jobs.path_of(file).open("rb"),
        as_attachment=True,
        filename=jobs.name_of(found),
        content_type="application/zip",
    )


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def call_proof(request: OrganizationRequest, call_id: str) -> HttpResponse:
    """Answer the proof of one call, a file of less than 4 kB."""
    found = None if "\x00" in call_id else calls.find(request.organization.pk, call_id)
    if found is None:
        raise Http404("No such call.")
    try:
        proof = proofs.of_call(found)
    except (proofs.NotProvedYet, packing.ContentsChanged) as refused:
        messages.error(request, str(refused))
        return redirect("call", request.organization.public_id, call_id)
    name = content_disposition_header(True, f"proof-{call_id}.json") or "attachment"
    return HttpResponse(canonical.encode(proof), content_type="application/json", headers={"Content-Disposition": name})


@require_GET
def receipt_keys(request: HttpRequest) -> HttpResponse:
    """Publish every key that ever signed a receipt, and say how one is verified. Open to everybody."""
    return render(request, "portal/receipt_keys.html", {"published": keys.published()})


@require_GET
def verifier(request: HttpRequest) -> HttpResponseBase:
    """Answer the program that verifies receipts. Open to everybody: whoever was shown a receipt may check it."""
    return FileResponse(
        VERIFIER.open("rb"), as_attachment=True, filename=VERIFIER.name, content_type="text/x-python; charset=utf-8"
    )


def _invoice(request: OrganizationRequest, invoice: UUID) -> Invoice:
    return get_object_or_404(Invoice, public_id=invoice, organization=request.organization)
