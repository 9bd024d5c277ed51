"""The ZIP of a receipt: its files, its heads and signatures, and a last entry that stands for all bytes before it."""

import hashlib
import struct
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from billing_portal.billing.models import Receipt, ReceiptKey, ReceiptPayment
from billing_portal.billing.receipts import canonical, contents, merkle, scopes, sealing

_BLOCK = 1024 * 1024
SEAL = "seal.json"
_TOLD_EVERY = 5_000
# Everything that could differ from file to file without being content is fixed, so that nothing else fits.
_STAMP, _FIRST_DAY = (1980, 1, 1, 0, 0, 0), 33
_ZIP64, _IN_SIZES = 45, 2**32 - 1  # the version that knows ZIP64, and where the sizes stand instead of here


class ContentsChanged(Exception):
    """What the books say now has another root than was signed: something that must never change has changed."""

    def __init__(self, receipt: Receipt, name: str) -> None:
        super().__init__(f"{name} is not what was signed for {receipt.invoice}.")
        self.receipt = receipt
        self.name = name


def pack(
    receipt: Receipt, payments: Sequence[ReceiptPayment], path: Path, *, tell: Callable[[int], None] = lambda _: None
) -> None:
    """Write the ZIP of a sealed receipt to `path`; `tell` hears now and then how many lines are written.

    Every file is held against its signed root while it is written. Raises ContentsChanged.
    """
    usage, invoice = canonical.decode(receipt.usage_head), canonical.decode(receipt.invoice_head or b"")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        done = 0
        for name, lines in [
            *contents.usage_files(scopes.of_receipt(receipt)),
            *contents.invoice_files(receipt.invoice, shape=invoice["format"]),
        ]:
            signed = (usage["files"] | invoice["files"])[name]
            done = _write(archive, name, lines(), signed, receipt, done, tell)
        _put(archive, "payments.jsonl", b"".join(bytes(each.body) + b"\n" for each in payments))
        _put(archive, "usage.json", bytes(receipt.usage_head))
        _put(archive, "invoice.json", bytes(receipt.invoice_head or b""))
        _put(archive, "subtrees.json", canonical.encode(receipt.subtrees))
        _put(archive, "signatures.json", canonical.encode(_signatures(receipt, payments)))
    _close(path)


def _write(
    archive: zipfile.ZipFile,
    name: str,
    lines: Iterator[bytes],
    signed: list[Any],
    receipt: Receipt,
    done: int,
    tell: Callable[[int], None],
) -> int:
    tree = merkle.Tree()
    with archive.open(_Entry(name), "w", force_zip64=True) as out:
        for line in lines:
            tree.add(line)
            out.write(line + b"\n")
            done += 1
            if done % _TOLD_EVERY == 0:
                tell(done)
    if [tree.lines, tree.finish().hex()] != signed:
        raise ContentsChanged(receipt, name)
    return done


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    with archive.open(_Entry(name), "w", force_zip64=True) as out:
        out.write(content)


def _close(path: Path) -> None:
    """Put the entry at the end that holds the hash of everything before it."""
    with zipfile.ZipFile(path) as archive:
        ends = archive.start_dir
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = ends
        while block := file.read(min(_BLOCK, left)):
            digest.update(block)
            left -= len(block)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, SEAL, canonical.encode({"bytes": ends, "sha256": digest.hexdigest()}))


class _Entry(zipfile.ZipInfo):
    """An entry whose header is the same bytes whichever Python writes it, as its verifier expects them.

    Before 3.11.4 `zipfile` wrote sizes of less than 4 GB twice, and an older version, where ZIP64 was asked for
    (https://github.com/python/cpython/issues/103861); Debian 12 has 3.11.2.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, _STAMP)
        self.compress_type = zipfile.ZIP_STORED if name == SEAL else zipfile.ZIP_DEFLATED
        self.create_system = 3
        self.create_version = self.extract_version = _ZIP64
        self.external_attr = 0o644 << 16

    def FileHeader(self, zip64: bool | None = None) -> bytes:  # noqa: N802 - as it is called there
        name, sizes = self.filename.encode(), struct.pack("<HHQQ", 1, 16, self.file_size, self.compress_size)
        fixed = (_ZIP64, 0, self.compress_type, 0, _FIRST_DAY, self.CRC, _IN_SIZES, _IN_SIZES, len(name), len(sizes))
        return struct.pack("<4s5H3I2H", b"PK\3\4", *fixed) + name + sizes


def _signatures(receipt: Receipt, payments: Sequence[ReceiptPayment]) -> dict[str, Any]:
    assert receipt.invoice_key is not None
    used: list[ReceiptKey] = [receipt.usage_key, receipt.invoice_key, *(each.key for each in payments)]
    return {
        "invoice": signature(receipt.invoice_root, receipt.invoice_signature, receipt.invoice_key),
        "keys": {key.fingerprint: b64encode(key.public_key).decode() for key in used},
        "payments": [signature(sealing.root_of(each.body), each.signature, each.key) for each in payments],
        "usage": signature(receipt.usage_root, receipt.usage_signature, receipt.usage_key),
    }


def signature(root: str, signature: bytes | memoryview | None, key: ReceiptKey) -> dict[str, str]:
    """Return a signature of a root as receipts and proofs have it."""
    return {"key": key.fingerprint, "root": root, "signature": b64encode(bytes(signature or b"")).decode()}
