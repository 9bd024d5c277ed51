"""Stripe's signature of a webhook: `t=…,v1=…`, HMAC-SHA256 over `t.body` with the endpoint's secret.

The SDK's own check accepts signatures from the future; this one does not. Times are wall time, never the domain's.
Source: docs.stripe.com/webhooks#verify-manually.
"""

import hashlib
import hmac
from collections.abc import Iterable

TOLERANCE_SECONDS = 300


class Forged(Exception):
    """The signature is missing, wrong, stale or from the future."""


def verify(body: bytes, header: str, secrets: Iterable[str], *, at: float) -> None:
    """Accept `body` if any of the secrets signed it within five minutes of `at`, in Unix seconds. Raises Forged.

    Several secrets are accepted while one is being rotated. An empty secret signs nothing.
    """
    signed_at, signatures = _read(header)
    if abs(at - int(signed_at)) > TOLERANCE_SECONDS:
        raise Forged("The signature is too old, or of the future.")
    for secret in secrets:
        expected = hmac.new(secret.encode(), signed_at.encode() + b"." + body, hashlib.sha256).hexdigest()
        if secret and any(hmac.compare_digest(expected.encode(), given.encode()) for given in signatures):
            return
    raise Forged("No secret of this endpoint made the signature.")


def _read(header: str) -> tuple[str, list[str]]:
    """Return the time, as it was signed, and the v1 signatures. Raises Forged."""
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12) or not signatures:
        raise Forged("The signature header is malformed.")
    return times[0], signatures
