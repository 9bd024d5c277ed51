"""Whatever is changed in a receipt is found: any field of any file, any byte of the ZIP, and a forgery that adds up."""

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from billing_portal.billing import month_end
from billing_portal.billing.receipts import canonical, merkle, sealing, verify_receipt
from billing_portal.ledger import credits, settlement
from billing_portal.ledger.models import Grant
from tests.billing.receipts.conftest import changed, content, packed, rewritten, verify
from tests.billing.world import CLOSING, MIDMONTH, invoice_of
from usage import ingestion

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def receipt(used, tmp_path: Path) -> Path:
    """A month with two kinds of credit of which one runs out within, corrections, and a late settlement."""
    organization = used("acme", calls=40, credit_micros=2_000_000)
    now = MIDMONTH + timedelta(hours=20)
    credits.grant(
        organization=organization,
        kind=Grant.Kind.PREPAID,
        micros=1_000_000,
        reference="prepaid",
        now=now,
        expires_at=now + timedelta(days=90),
    )
    for call, duration in (("call_1_0", 900_000), ("call_1_4", 10_000)):
        _correct(organization, call, duration, now=now)
    settlement.settle_all(organization.pk, now=now)
    invoice = invoice_of(organization)
    assert month_end.advance(invoice, now=CLOSING)
    return packed(invoice, tmp_path / "receipt.zip")


def _correct(organization: Any, call_id: str, duration_ms: int, *, now: Any) -> None:
    start = MIDMONTH + timedelta(minutes=int(call_id.rpartition("_")[2]))
    item = {
        "call_id": call_id,
        "organization": organization.reference,
        "call_type": "phone_call",
        "call_status": "ended",
        "start_timestamp": int(start.timestamp() * 1000),
        "end_timestamp": int(start.timestamp() * 1000) + duration_ms,
        "duration_ms": duration_ms,
        "products": ["platform", "elevenlabs_tts", "gpt_4o_mini"],
        "llm_token_usage": {"average": 4_000, "num_requests": 4},
        "correction": True,
        "revision": 1,
        "correction_reason": "measured again",
    }
    answers = ingestion.record([msgspec.json.encode(item)], now=now)
    assert answers[0].status == "recorded", answers


def test_any_field_of_any_file_that_is_changed_is_found(receipt: Path, tmp_path: Path) -> None:
    whole = verify(receipt)
    assert whole.verified, whole.text
    files = content(receipt)
    tried = 0
    for name, path, files_with_it in _mutations(files):
        verdict = verify(rewritten(files_with_it, tmp_path / "changed.zip"))
        assert not verdict.verified, f"{name}: nobody saw that {path} was changed"
        assert verdict.text.startswith("NOT VERIFIED\n"), verdict.text
        assert "Traceback" not in verdict.text
        tried += 1
    assert tried > 150


def test_any_byte_of_the_zip_that_is_changed_is_found(receipt: Path, tmp_path: Path) -> None:
    whole = receipt.read_bytes()
    rng = random.Random(7)
    directory = whole.rindex(b"PK\1\2" + b"\x2d")
    places = {rng.randrange(len(whole)) for _ in range(60)} | set(range(directory, len(whole), 3)) | {0, len(whole) - 1}
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        (tmp_path / "damaged.zip").write_bytes(damaged)
        verdict = verify(tmp_path / "damaged.zip")
        assert not verdict.verified, place
        assert verdict.text.startswith("NOT VERIFIED\n"), verdict.text
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "damaged.zip").write_bytes(whole[:cut])
        assert not verify(tmp_path / "damaged.zip").verified
    (tmp_path / "damaged.zip").write_bytes(whole + b"\0")
    assert not verify(tmp_path / "damaged.zip").verified


def test_a_forgery_that_adds_up_is_found_by_the_signature_the_key_and_the_root(receipt: Path, tmp_path: Path) -> None:
    root, key = _root_and_key(receipt)
    assert verify(receipt, "--root", root, "--key", key).verified
    files = content(receipt)
    files["calls.jsonl"] = changed(
        files["calls.jsonl"],
        3,
        lambda call: call | {"started_at": call["started_at"].replace("2027-02-10", "2027-02-11")},
    )
    forged = rewritten(_hashed_anew(files), tmp_path / "forged.zip")
    verdict = verify(forged)
    assert "the signature of" in verdict.text
    assert not verdict.verified
    resigned = rewritten(_signed_anew(_hashed_anew(files)), tmp_path / "resigned.zip")
    alone = verify(resigned)
    assert alone.verified, alone.text
    assert "Compare the usage root with the one at the foot of the invoice" in alone.text
    assert "Compare the key" in alone.text
    assert "the usage root: it is" in verify(resigned, "--root", root).text
    assert "the key: it is" in verify(resigned, "--key", key).text


def test_a_lower_price_with_all_hashes_made_anew_is_named_by_the_first_call_it_prices(
    receipt: Path, tmp_path: Path
) -> None:
    files = content(receipt)

    def cheaper(prices: Any) -> Any:
        prices["rates"][0][3] -= 1
        return prices

    old = files["prices.jsonl"].splitlines()[0]
    files["prices.jsonl"] = changed(files["prices.jsonl"], 0, cheaper)
    new = files["prices.jsonl"].splitlines()[0]
    files["calls.jsonl"] = files["calls.jsonl"].replace(_name(old), _name(new))
    verdict = verify(rewritten(_hashed_anew(files), tmp_path / "forged.zip"))
    assert not verdict.verified
    assert "has another rate than before" in verdict.text or "call call_1_" in verdict.text


def test_what_is_no_receipt_is_said_to_be_none(tmp_path: Path) -> None:
    for number, garbage in enumerate((b"", b"not a zip", b"PK\3\4" + bytes(100))):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(garbage)
        verdict = verify(path)
        assert verdict.code == 1
        assert verdict.text.startswith("NOT VERIFIED\nthe file cannot be read")
    assert "cannot be read" in verify(tmp_path / "missing.zip").text
    other = rewritten({"a.txt": b"hello"}, tmp_path / "other.zip")
    assert "it must hold the files of a receipt and nothing else" in verify(other).text


# ── How receipts are spoilt ───────────────────────────────────────────────────────────────────────────────────────────


def _mutations(files: dict[str, bytes], *, of_kind: str | None = None) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Yield receipts with one value changed: every value of one line of each shape, or of a kind, in every file."""
    for name, whole in files.items():
        if name == "seal.json":
            continue
        shapes = set()
        for number, line in enumerate(whole.splitlines()):
            value = json.loads(line)
            shape = (value.get("kind"), value.get("source"), value.get("grant_kind"), tuple(sorted(value)))
            if shape in shapes or of_kind not in (None, value.get("kind")):
                continue
            shapes.add(shape)
            yield name, f"line {number}, left out", files | {name: _without(whole, number)}
            for path, mutant in _changed_values(value):
                yield name, f"{name}:{number} {path}", files | {name: _with(whole, number, mutant)}


def _changed_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            for inner, mutant in _changed_values(each, f"{path}.{key}"):
                yield inner, value | {key: mutant}
            yield f"{path}.{key} gone", {name: each for name, each in value.items() if name != key}
    elif isinstance(value, list):
        for place, each in enumerate(value[:4]):
            for inner, mutant in _changed_values(each, f"{path}[{place}]"):
                yield inner, [*value[:place], mutant, *value[place + 1 :]]
        if value:
            yield f"{path} shorter", value[:-1]
    elif isinstance(value, bool) or value is None:
        yield path, 1
    elif isinstance(value, int):
        yield path, value + 1
    else:
        yield path, (value[:-1] + ("0" if value[-1] != "0" else "1")) if value else "x"


def _with(whole: bytes, number: int, value: Any) -> bytes:
    lines = whole.splitlines()
    lines[number] = canonical.encode(value)
    return b"\n".join(lines) + (b"\n" if whole.endswith(b"\n") else b"")


def _without(whole: bytes, number: int) -> bytes:
    lines = whole.splitlines()
    del lines[number]
    return b"".join(line + b"\n" for line in lines)


def _hashed_anew(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files with every root and head made to fit, as somebody without the key would."""
    files = dict(files)
    signatures = json.loads(files["signatures.json"])
    trees = {name: merkle.of(whole.splitlines()) for name, whole in files.items() if name.endswith(".jsonl")}
    for head in ("usage", "invoice"):
        value = json.loads(files[f"{head}.json"])
        for name in value["files"]:
            value["files"][name] = [trees[name].lines, merkle.root(trees[name].subtrees).hex()]
        if head == "invoice":
            value["usage"] = signatures["usage"]["root"]
        files[f"{head}.json"] = canonical.encode(value)
        signatures[head]["root"] = sealing.root_of(files[f"{head}.json"])
    files["subtrees.json"] = canonical.encode(
        {name: [each.hex() for each in trees[name].subtrees] for name in json.loads(files["subtrees.json"])}
    )
    before, bodies = signatures["invoice"]["root"], []
    for number, body in enumerate(files["payments.jsonl"].splitlines()):
        bodies.append(canonical.encode(json.loads(body) | {"before": before}))
        before = signatures["payments"][number]["root"] = sealing.root_of(bodies[-1])
    files["payments.jsonl"] = b"".join(body + b"\n" for body in bodies)
    files["signatures.json"] = canonical.encode(signatures)
    return files


def _signed_anew(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files signed with a key of the forger's own."""
    from base64 import b64encode

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from billing_portal.billing.receipts import keys

    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = private.public_key().public_bytes_raw()
    name = keys.fingerprint(public)
    signatures = json.loads(files["signatures.json"])
    for each in (signatures["usage"], signatures["invoice"], *signatures["payments"]):
        each["key"] = name
        each["signature"] = b64encode(private.sign(keys.PURPOSE + each["root"].encode())).decode()
    signatures["keys"] = {name: b64encode(public).decode()}
    return files | {"signatures.json": canonical.encode(signatures)}


def _root_and_key(path: Path) -> tuple[str, str]:
    from base64 import b64decode

    signatures = json.loads(content(path)["signatures.json"])
    return signatures["usage"]["root"], b64decode(next(iter(signatures["keys"].values()))).hex()


def _name(line: bytes) -> bytes:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(verify_receipt.leaf_hash(line)).rstrip(b"=")
