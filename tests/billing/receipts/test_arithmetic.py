"""The verifier's own arithmetic, held against ours and against a library: they share no code, and must agree."""

import hashlib
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_portal.billing.receipts import canonical, merkle, verify_receipt
from tests.conftest import NOW as _AT
from usage import deltas, rating
from usage.models import Billable, Component
from usage.snapshots import Rate, assemble


@settings(max_examples=30)
@given(st.integers(1, 3_000), st.data())
def test_the_path_of_any_line_leads_to_the_root(count: int, data: st.DataObject) -> None:
    lines = [str(number).encode() for number in range(count)]
    tree = merkle.of(lines)
    root = merkle.root(tree.subtrees)
    assert root == verify_receipt.merkle_root([verify_receipt.leaf_hash(line) for line in lines])
    place = data.draw(st.integers(0, count - 1))
    chunk, within = divmod(place, merkle.CHUNK)
    hashes = [merkle.leaf(line) for line in lines[chunk * merkle.CHUNK : (chunk + 1) * merkle.CHUNK]]
    path = [*merkle.path(hashes, within), *merkle.path(tree.subtrees, chunk)]
    proof = {"call": lines[place].decode(), "place": place, "path": b64encode(b"".join(path)).decode()}
    assert verify_receipt.root_by_path(proof, count) == root.hex()
    other = {**proof, "call": "another"}
    assert verify_receipt.root_by_path(other, count) != root.hex()


def test_nothing_has_a_root_of_its_own() -> None:
    assert merkle.root([]) == hashlib.sha256().digest() == verify_receipt.merkle_root([])


def test_signatures_are_those_of_ed25519() -> None:
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a key").digest())
    public = private.public_key().public_bytes_raw()
    for length in (0, 1, 33, 200):
        message = bytes(range(length))
        signature = private.sign(message)
        assert verify_receipt.is_signed(public, message, signature)
        for place in (0, 31, 32, 63):
            wrong = bytearray(signature)
            wrong[place] ^= 1
            assert not verify_receipt.is_signed(public, message, bytes(wrong))
        assert not verify_receipt.is_signed(public, message + b".", signature)
        assert not verify_receipt.is_signed(bytes(32), message, signature)
    # A scalar beyond the group's order is the same point, and must not count as another signature.
    scalar = int.from_bytes(signature[32:], "little") + verify_receipt.ORDER
    assert not verify_receipt.is_signed(public, message, signature[:32] + scalar.to_bytes(32, "little"))


def test_both_know_the_same_components_in_the_same_order() -> None:
    assert list(verify_receipt.COMPONENTS) == Billable.values


_TEXTS = st.sampled_from(["minute", "second", "call", "thousand_tokens"])
_RATES = st.lists(
    st.tuples(
        st.sampled_from([Component.PLATFORM, Component.VOICE, Component.LLM, Component.ADD_ON]),
        _TEXTS,
        st.integers(0, 3_000_000),
        st.sampled_from([0, 10_000, 60_000]),
        st.sampled_from([1, 1_000, 6_000, 60_000]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100)
@given(
    _RATES,
    st.booleans(),
    st.tuples(st.integers(0, 4_000_000), st.integers(0, 60_000), st.integers(0, 12)),
    st.tuples(st.sampled_from([0, 5_000]), st.sampled_from([0, 30_000]), st.sampled_from([0, 3_500])),
)
def test_i18_both_price_any_call_alike(rates, has_surcharge, facts, terms) -> None:
    made = [
        Rate(i, str(c), f"p{i}", "", unit, micros, least, step)
        for i, (c, unit, micros, least, step) in enumerate(rates)
    ]
    surcharge = [Rate(99, str(Component.TOKEN_SURCHARGE), "more", "", "surcharge", 0, 0, 1)] if has_surcharge else []
    grace, free, threshold = terms
    snapshot = assemble([*made, *surcharge], 1, "book", 1, "USD", _AT, grace, free, threshold)
    products = tuple(rate.product for rate in made)
    duration, tokens, requests = facts
    ours = rating.rate(rating.CallFacts(duration, products, tokens, requests), snapshot)
    line = {
        "book": "book",
        "number": 1,
        "currency": "USD",
        "starts_at": canonical.instant(_AT),
        "grace_ms": grace,
        "free_ms": free,
        "token_threshold": threshold,
        "products": list(products),
        "surcharge": "more" if has_surcharge else None,
        "rates": [
            [r.component, r.product, r.unit, r.rate_micros, r.minimum_ms, r.increment_ms]
            for r in snapshot.rates_of(products) or ()
        ],
    }
    theirs = verify_receipt.Prices(line, "here").lines(duration, tokens, requests)
    assert tuple(theirs) == ours.line_micros


_SUMS = st.dictionaries(st.sampled_from(["platform", "voice", "llm"]), st.integers(1, 100), max_size=3)


@settings(max_examples=50)
@given(_SUMS, st.lists(st.tuples(st.sampled_from(["platform", "voice", "llm"]), st.integers(0, 100)), max_size=5))
def test_i18_both_see_the_same_change_in_a_correction(before: dict[str, int], lines: list[tuple[str, int]]) -> None:
    components, micros = [each for each, _ in lines], [each for _, each in lines]
    ours = deltas.between(before, components, micros)
    charged, given_back = verify_receipt.what_changed(components, micros, before)
    assert (tuple(charged), given_back) == (ours.line_micros, ours.given_back)


@pytest.mark.parametrize("text", ['"é\\u2028"', '"a\\nb\\u0000"', '"\\\\"', '{"a":[1,-2,null,true]}'])
def test_what_is_written_is_read_alike(text: str) -> None:
    value = verify_receipt.load(text.encode(), "here")
    assert verify_receipt.load(canonical.encode(value), "here") == value == canonical.decode(canonical.encode(value))
