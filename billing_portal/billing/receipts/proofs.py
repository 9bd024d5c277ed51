"""The proof of one call: its line, what it was priced by, and its way up to the signed root. Less than 4 kB."""

from base64 import b64encode
from itertools import islice
from typing import Any

from billing_portal.billing.models import Receipt
from billing_portal.billing.receipts import canonical, merkle, packing, scopes
from billing_portal.billing.receipts.calls import Calls
from billing_portal.billing.receipts.contents import CALLS
from usage import charges, revisions
from usage.models import Call


class NotProvedYet(Exception):
    """The call is on no final invoice yet."""

    def __str__(self) -> str:
        return "The call is proved once the invoice of its month is final."


def of_call(call: Call) -> dict[str, Any]:
    """Return the proof of the newest revision of a call that is on a final invoice.

    Reads no more than the thousand calls beside it. Raises NotProvedYet, packing.ContentsChanged.
    """
    for row in _revisions(call):
        charge = charges.of(row)
        if charge is not None and charge.sequence is not None:
            receipt = _receipt(call.organization_id, charge.billed_month)
            if receipt is not None and charge.sequence <= receipt.through_sequence:
                return prove(receipt, charge.sequence)
    raise NotProvedYet


def prove(receipt: Receipt, sequence: int) -> dict[str, Any]:
    """Return the proof of the call with this number. Raises packing.ContentsChanged."""
    place = charges.place_of(receipt.organization_id, receipt.month, sequence)
    chunk = place // merkle.CHUNK
    first = charges.sequence_at(receipt.organization_id, receipt.month, chunk * merkle.CHUNK)
    calls = Calls(scopes.of_receipt(receipt))
    lines = list(islice(calls.lines(after=first - 1), merkle.CHUNK))
    hashes = [merkle.leaf(line) for line in lines]
    subtrees = [bytes.fromhex(each) for each in receipt.subtrees[CALLS]]
    if merkle.root(hashes) != subtrees[chunk]:
        raise packing.ContentsChanged(receipt, CALLS)
    line = lines[place % merkle.CHUNK]
    path = [*merkle.path(hashes, place % merkle.CHUNK), *merkle.path(subtrees, chunk)]
    key = receipt.usage_key
    return {
        "call": line.decode(),
        "keys": {key.fingerprint: b64encode(key.public_key).decode()},
        "path": b64encode(b"".join(path)).decode(),
        "place": place,
        "prices": calls.price_line(canonical.decode(line)["prices"]).decode(),
        "signature": packing.signature(receipt.usage_root, receipt.usage_signature, key),
        "usage": bytes(receipt.usage_head).decode(),
    }


def _revisions(call: Call) -> list[Call]:
    """Return the rows of a call, the newest first."""
    rows = Call.objects.filter(organization_id=call.organization_id).select_related("mix", "organization")
    later = revisions.all_of(call.organization_id, call.call_id)
    found = [rows.filter(started_at=each.started_at, id=each.id).first() for each in reversed(later)]
    first = rows.filter(started_at=call.started_at, call_id=call.call_id, revision=1).first()
    return [row for row in [*found, first] if row is not None]


def _receipt(organization_id: int, month: Any) -> Receipt | None:
    """Return the receipt of the month's own invoice once that is final."""
    known = Receipt.objects.filter(organization_id=organization_id, month=month, sealed_at__isnull=False)
    of_month = known.filter(invoice__month=month).select_related("invoice", "usage_key")
    return of_month.order_by("-id").first()
