"""The keys that sign receipts: one in the settings that signs, and the public halves of all that ever did."""

import hashlib
from base64 import b64decode
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.db.models import QuerySet

from billing_portal.billing.models import ReceiptKey

# What is signed begins with this, so that no signature can be taken for one of anything else.
PURPOSE = b"billing portal receipt "


def sign(subject: str, *, now: datetime) -> tuple[bytes, ReceiptKey]:
    """Return the signature of a root in hexadecimal by the key of the settings, published with its first use."""
    private = _private()
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key, _ = ReceiptKey.objects.get_or_create(
        fingerprint=fingerprint(public), defaults={"public_key": public, "first_used_at": now}
    )
    return private.sign(PURPOSE + subject.encode()), key


def published() -> QuerySet[ReceiptKey]:
    """Return all keys that ever signed, the newest first."""
    return ReceiptKey.objects.order_by("-first_used_at", "-id")


def fingerprint(public: bytes) -> str:
    """Return the short name of a public key: 64 bits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def _private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b64decode(settings.RECEIPT_SIGNING_KEY, validate=True))
