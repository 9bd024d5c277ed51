"""Retell's signature of a webhook: `v=<milliseconds>,d=<hex>`, HMAC-SHA256 with an API key over body and time.

Times are wall time, never the domain's. Source: `verify` of Retell's SDKs; docs.retellai.com/features/secure-webhook.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable

TOLERANCE_MS = 300_000
_HEADER = re.compile(r"v=(\d{1,15}),d=([0-9a-f]{64})", re.ASCII)
_OF_ORGANIZATION = re.compile(r"([-\w]{1,64})=(.+)", re.ASCII)


class Forged(Exception):
    """The signature is missing, wrong, stale or from the future."""


def verify(body: bytes, header: str, keys: Iterable[str], *, at_ms: int) -> str:
    """Return for whom the key that signed `body` speaks: an organization's reference, or nothing for the vendor.

    `keys` are as in `settings.RETELL_WEBHOOK_KEYS`; `at_ms` is Unix time. Raises Forged.
    """
    found = _HEADER.fullmatch(header)
    if found is None:
        raise Forged("The header x-retell-signature is missing or malformed.")
    signed_at, given = found.groups()
    if abs(at_ms - int(signed_at)) > TOLERANCE_MS:
        raise Forged("The signature is too old, or of the future.")
    for organization, key in map(_named, keys):
        expected = hmac.new(key.encode(), body + signed_at.encode(), hashlib.sha256).hexdigest()
        if key and hmac.compare_digest(expected, given):
            return organization
    raise Forged("No key that is known here made the signature.")


def _named(entry: str) -> tuple[str, str]:
    found = _OF_ORGANIZATION.fullmatch(entry)
    return (found[1], found[2]) if found else ("", entry)
