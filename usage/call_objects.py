"""Call objects in Retell's published shape, read into facts; whatever is wrong is named by field and reason.

Beside Retell's fields an item may carry `organization` (the vendor's reference of the customer), and products by name:
`voice_engine`, `llm_model`, `telephony`, `add_ons` and `products`, which add to those of `call_cost.product_costs`.
Costs inside a call object are the vendor's own figures: kept, never used. What is not interpreted is kept as it came.
`source` and `source_sequence` say by which number a source counted the call, so that a missing one is noticed
(`completeness`); they are no part of its content. Neither are `correction`, the `revision` that one replaces, and its
`correction_reason`. A call that was `cancelled` has no billable facts, whatever else it says.

Source of the shape: https://docs.retellai.com/api-references/get-call.
"""

import hashlib
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, NamedTuple

import msgspec

from usage import instants, json_faults
from usage.json_limits import TooComplex, check_values
from usage.rating import CallFacts

MAX_ITEM_BYTES = 1024 * 1024
MAX_DURATION_MS = 31 * 24 * 3600 * 1000
MAX_TOKENS = 10**9
MAX_PRODUCTS = 64
MAX_SEQUENCE = 2**53 - 1
CLOCK_SKEW = timedelta(minutes=5)
# What the price version derives from tokens; in a call object it is only a figure of the vendor's.
DERIVED_PRODUCTS = frozenset({"llm_token_surcharge"})
_UNFINISHED = frozenset({"registered", "ongoing"})
CANCELLED = "cancelled"
_CANCELLED = frozenset({CANCELLED, "canceled"})
MAX_REVISION = 2**15 - 2
# Links are signed anew whenever the vendor's API is asked, so they say nothing about the call.
_LINK_SUFFIX = "_url"
# It opens the call's room: a secret, and never stored.
_SECRETS = frozenset({"access_token"})
_TOKENS = "llm_token_usage"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Text16 = Annotated[str, msgspec.Meta(max_length=16)]
Text24 = Annotated[str, msgspec.Meta(max_length=24)]
Text32 = Annotated[str, msgspec.Meta(max_length=32)]
Text64 = Annotated[str, msgspec.Meta(max_length=64)]
Text128 = Annotated[str, msgspec.Meta(max_length=128)]


class CallRejected(Exception):
    """An item cannot be recorded; `field` is a path in the item, empty for the item as a whole."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class ProductCost(msgspec.Struct, frozen=True, gc=False):
    product: Name


class CallCost(msgspec.Struct, frozen=True):
    product_costs: list[ProductCost] | None = None


class TokenUsage(msgspec.Struct, frozen=True):
    values: list[int | float] | None = None
    average: int | Decimal | None = None
    num_requests: int | Decimal | None = None


class CallItem(msgspec.Struct, frozen=True):
    """The fields that are interpreted."""

    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    call_type: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]
    call_status: Annotated[str, msgspec.Meta(min_length=1, max_length=24)]
    start_timestamp: int | str
    organization: Name | None = None
    end_timestamp: int | str | None = None
    duration_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_DURATION_MS)] | None = None
    direction: Text16 | None = None
    disconnection_reason: Text64 | None = None
    agent_id: Text128 | None = None
    agent_name: Text128 | None = None
    from_number: Text32 | None = None
    to_number: Text32 | None = None
    metadata: dict[str, msgspec.Raw] | None = None
    call_cost: CallCost | None = None
    llm_token_usage: TokenUsage | None = None
    voice_engine: Name | None = None
    llm_model: Name | None = None
    telephony: Name | None = None
    add_ons: list[Name] | None = None
    products: list[Name] | None = None
    source: (
        Annotated[
            str, msgspec.Meta(min_length=1, max_length=64, description="What numbers the calls of this organization.")
        ]
        | None
    ) = None
    source_sequence: (
        Annotated[
            int,
            msgspec.Meta(
                ge=0, le=MAX_SEQUENCE, description="The call's number there: without a gap, so a missing one is seen."
            ),
        ]
        | None
    ) = None
    correction: (
        Annotated[bool | str, msgspec.Meta(description="Whether this replaces what is recorded under the id.")] | None
    ) = None
    revision: (
        Annotated[int | str, msgspec.Meta(description="Of a correction: the number of the revision that it replaces.")]
        | None
    ) = None
    correction_reason: (
        Annotated[str, msgspec.Meta(max_length=200, description="Of a correction: why; the customer reads it.")] | None
    ) = None


# How the call was counted on its way; the same call may come again by another number.
_DELIVERY = frozenset({"source", "source_sequence"})
# These mean something in a correction alone; elsewhere they are free fields.
_CORRECTING = frozenset({"revision", "correction_reason"})
# `call_cost` and `llm_token_usage` may hold more than is interpreted; then they are kept whole.
_NAMED = frozenset(CallItem.__struct_fields__) - {"correction"} - _CORRECTING
_INTERPRETED = _NAMED - {"call_cost", "llm_token_usage"} - _DELIVERY | {"correction"}
_MEAN_TOKENS = frozenset({"average", "num_requests"})
EMPTY = msgspec.Raw(b"{}")


class CallObject(msgspec.Struct, frozen=True, gc=False):
    """A call as it will be stored. `metadata` and `extra` are JSON texts, `digest` is 16 bytes."""

    organization: str | None
    call_id: str
    facts: CallFacts
    started_at: datetime
    ended_at: datetime | None
    call_type: str
    status: str
    direction: str
    disconnection_reason: str
    agent_id: str
    agent_name: str
    from_number: str
    to_number: str
    metadata: msgspec.Raw
    extra: msgspec.Raw
    digest: bytes
    source: str
    source_sequence: int | None
    replaces: int = 0  # the revision that this corrects, 0 for what is no correction
    correction_reason: str = ""

    @property
    def over_at(self) -> datetime:
        """Return when the call was over."""
        return self.ended_at or self.started_at + timedelta(milliseconds=self.facts.duration_ms)

    @property
    def has_detail(self) -> bool:
        """Say whether the call has anything personal or free-form."""
        free = self.metadata is not EMPTY or self.extra is not EMPTY
        return free or bool(self.from_number or self.to_number)


# What the digest takes from the facts, as understood, or leaves out.
_COVERED_BY_FACTS = (
    *("organization", "call_id", "start_timestamp", "end_timestamp", "duration_ms"),
    *("products", "add_ons", "voice_engine", "llm_model", "telephony"),
    *_DELIVERY,
)

_item_decoder = msgspec.json.Decoder(CallItem)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tree_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_canonical = msgspec.json.Encoder(order="sorted")


def decode(raw: bytes | msgspec.Raw, *, now: datetime) -> CallObject:
    """Read one item. Raises CallRejected with the field and the reason of the first thing that is wrong.

    Instants are whole milliseconds since 1970 or RFC 3339 texts. A start may be five minutes ahead of `now`, no more.
    """
    text = bytes(raw)
    if len(text) > MAX_ITEM_BYTES:
        raise CallRejected("", f"The item is larger than {MAX_ITEM_BYTES:,} bytes.")
    try:
        item = _item_decoder.decode(text)
        tree = _tree_decoder.decode(text)
        check_values(text, tree)
        return _call_object(item, text, tree, now)
    except msgspec.ValidationError as error:
        raise CallRejected(*json_faults.of(error)) from None
    except TooComplex as error:
        raise CallRejected(error.path, error.reason) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CallRejected("", f"The item is not readable JSON: {error}.") from None


def _call_object(item: CallItem, text: bytes, tree: dict[str, Any], now: datetime) -> CallObject:
    started_at, ended_at = _span(item, now)
    is_cancelled = item.call_status in _CANCELLED
    facts = _NOTHING if is_cancelled else _facts(item, text, started_at, ended_at)
    replaces = _replaces(item, tree)
    metadata, extra = _free_fields(item, text, tree)
    return CallObject(
        organization=item.organization,
        call_id=item.call_id,
        facts=facts,
        started_at=started_at,
        ended_at=ended_at,
        call_type=item.call_type,
        status=CANCELLED if is_cancelled else item.call_status,
        direction=item.direction or "",
        disconnection_reason=item.disconnection_reason or "",
        agent_id=item.agent_id or "",
        agent_name=item.agent_name or "",
        from_number=item.from_number or "",
        to_number=item.to_number or "",
        metadata=metadata,
        extra=extra,
        digest=_digest(facts, started_at, ended_at, tree),
        source=item.source or "",
        source_sequence=item.source_sequence if item.source else None,
        replaces=replaces,
        correction_reason=(item.correction_reason or "").strip() if replaces else "",
    )


_NOTHING = CallFacts(0, ())


def _facts(item: CallItem, text: bytes, started_at: datetime, ended_at: datetime | None) -> CallFacts:
    duration_ms = _duration_ms(item, started_at, ended_at)
    tokens, requests = _tokens(item.llm_token_usage, text)
    return CallFacts(duration_ms, _products(item), tokens, requests)


def _replaces(item: CallItem, tree: dict[str, Any]) -> int:
    """Return the revision that an item corrects, 0 if it is no correction; what says so is no part of the content."""
    if item.correction is None:
        return 0
    tree.pop("correction")
    if item.correction not in _TRUTHS:
        raise CallRejected("correction", "Expected true or false.")
    if not _TRUTHS[item.correction]:
        return 0
    for name in _CORRECTING:
        tree.pop(name, None)
    if item.revision is None:
        raise CallRejected(
            "revision", "A correction names the revision that it replaces, 1 for the call as first sent."
        )
    try:
        replaces = int(item.revision)
    except ValueError:
        replaces = 0
    if not 1 <= replaces <= MAX_REVISION:
        raise CallRejected("revision", f"Expected a whole number between 1 and {MAX_REVISION:,}.")
    return replaces


# Texts are what a CSV file has.
_TRUTHS: dict[bool | str, bool] = {True: True, False: False, "true": True, "false": False}


def _free_fields(item: CallItem, text: bytes, tree: dict[str, Any]) -> tuple[msgspec.Raw, msgspec.Raw]:
    """Return the metadata, and what is not interpreted: as they came, cut out of the text where there are any."""
    usage, is_cancelled = item.llm_token_usage, item.call_status in _CANCELLED
    whole = item.call_cost is None and (usage is None or (_says_all(usage, tree) and not is_cancelled))
    if whole and not item.metadata and item.source is None and item.source_sequence is None and _NAMED.issuperset(tree):
        return EMPTY, EMPTY
    fields = _fields_decoder.decode(text)
    kept = _INTERPRETED | {"llm_token_usage"} if whole else _INTERPRETED
    if item.correction is not None and "revision" not in tree:
        kept |= _CORRECTING
    extra = {name: fields[name] for name in fields if name not in kept and name not in _SECRETS}
    metadata = fields["metadata"] if item.metadata else EMPTY
    return metadata, msgspec.Raw(_encoder.encode(extra)) if extra else EMPTY


def _says_all(usage: TokenUsage, tree: dict[str, Any]) -> bool:
    """Say whether the mean and its requests are all there is, so that the facts have the same to say."""
    mean, requests = usage.average, usage.num_requests
    return type(mean) is int and type(requests) is int and requests > 0 and _MEAN_TOKENS.issuperset(tree[_TOKENS])


def _span(item: CallItem, now: datetime) -> tuple[datetime, datetime | None]:
    if item.call_status in _UNFINISHED:
        raise CallRejected("call_status", f"The call is {item.call_status}: it is recorded when it is over.")
    started_at = _instant("start_timestamp", item.start_timestamp, now)
    if item.end_timestamp is None:
        return started_at, None
    ended_at = _instant("end_timestamp", item.end_timestamp, now)
    if ended_at < started_at:
        raise CallRejected("end_timestamp", "The call ends before it starts.")
    return started_at, ended_at


def _instant(field: str, value: int | str, now: datetime) -> datetime:
    try:
        instant = instants.parse(value)
    except ValueError as error:
        raise CallRejected(field, str(error)) from None
    if instant > now + CLOCK_SKEW:
        raise CallRejected(field, f"{instant.isoformat()} lies in the future.")
    return instant


def _duration_ms(item: CallItem, started_at: datetime, ended_at: datetime | None) -> int:
    """Return the connected time: as given, else from start to end. A call without both was never connected."""
    if item.duration_ms is not None:
        return item.duration_ms
    if ended_at is None:
        if item.call_status == "ended":
            raise CallRejected("duration_ms", "A call that ended needs its duration or its end.")
        return 0
    duration_ms = (ended_at - started_at) // timedelta(milliseconds=1)
    if duration_ms > MAX_DURATION_MS:
        raise CallRejected("end_timestamp", "The call lasts longer than 31 days.")
    return duration_ms


def _products(item: CallItem) -> tuple[str, ...]:
    """Return the names of the priced things that a call used: sorted, each once."""
    named: set[str | None] = {item.voice_engine, item.llm_model, item.telephony, *(item.products or ())}
    named.update(item.add_ons or ())
    if item.call_cost is not None:
        named.update([cost.product for cost in item.call_cost.product_costs or ()])
    products = sorted([product for product in named if product is not None and product not in DERIVED_PRODUCTS])
    if len(products) > MAX_PRODUCTS:
        raise CallRejected("products", f"A call names at most {MAX_PRODUCTS} products, not {len(products)}.")
    return tuple(products)


def _tokens(usage: TokenUsage | None, text: bytes) -> tuple[int, int]:
    """Return (tokens, requests): the sum over the requests, else mean × requests, rounded half up once."""
    if usage is None:
        return 0, 0
    if usage.values:
        total, requests = _sum_of_values(usage.values, text), len(usage.values)
    else:
        requests = _whole("llm_token_usage.num_requests", usage.num_requests or 0)
        total = (usage.average or 0) * requests
    if not 0 <= total <= MAX_TOKENS:
        raise CallRejected(_TOKENS, f"The tokens of a call lie between 0 and {MAX_TOKENS:,}.")
    return total if isinstance(total, int) else int(total.to_integral_value(ROUND_HALF_UP)), requests


def _sum_of_values(values: list[int | float], text: bytes) -> int | Decimal:
    """Return the exact sum: read again as decimals if any value is not written as a whole number."""
    if min(values) < 0 or max(values) > MAX_TOKENS:
        raise CallRejected("llm_token_usage.values", f"The tokens of a call lie between 0 and {MAX_TOKENS:,}.")
    total = sum(values)
    if isinstance(total, int):
        return total
    fields = _fields_decoder.decode(text)
    return sum(msgspec.json.decode(fields[_TOKENS], type=_DecimalValues).values, Decimal(0))


class _DecimalValues(msgspec.Struct, frozen=True):
    values: list[Decimal]


def _whole(field: str, number: int | Decimal) -> int:
    if isinstance(number, int) and 0 <= number <= MAX_TOKENS:
        return number
    if not 0 <= number <= MAX_TOKENS or number != int(number):
        raise CallRejected(field, f"Expected a whole number between 0 and {MAX_TOKENS:,}.")
    return int(number)


def _digest(facts: CallFacts, started_at: datetime, ended_at: datetime | None, tree: dict[str, Any]) -> bytes:
    """Return the first half of the SHA-256 that tells a repeated call from another one under its id.

    It covers everything that is stored: the billable facts as understood, so that two spellings of one instant are the
    same, and all other fields as they came, metadata included. Only links and secrets are left out: the vendor signs
    links anew on every read. The organization is part of the key, not of the content.
    """
    for name in _COVERED_BY_FACTS:
        tree.pop(name, None)
    if not _NAMED.issuperset(tree):
        for name in [name for name in tree if name.endswith(_LINK_SUFFIX) or name in _SECRETS]:
            del tree[name]
    read = (started_at, ended_at, facts.duration_ms, facts.products, facts.llm_tokens, facts.llm_requests)
    return hashlib.sha256(_canonical.encode((read, tree))).digest()[:16]


class Peeked(NamedTuple):
    """As much of a rejected item as could be read, for the log; None is what could not."""

    call_id: str | None = None
    organization: str | None = None
    source: str | None = None
    source_sequence: int | None = None
    over_at: None = None


def peek(raw: bytes | msgspec.Raw) -> Peeked:
    """Return which call an item that was rejected is about."""
    try:
        given = _identity_decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Peeked()
    source = _short_text(given.source, 64)
    number = given.source_sequence
    numbered = type(number) is int and 0 <= number <= MAX_SEQUENCE and source is not None
    return Peeked(
        _short_text(given.call_id, 128),
        _short_text(given.organization, 64),
        source,
        number if numbered else None,
    )


def _short_text(value: Any, longest: int) -> str | None:
    """Return a text as the database can hold it; None for anything else, and for no text."""
    return value.replace("\0", "\ufffd")[:longest] or None if isinstance(value, str) else None


class _Identity(msgspec.Struct):
    call_id: Any = None
    organization: Any = None
    source: Any = None
    source_sequence: Any = None


_identity_decoder = msgspec.json.Decoder(_Identity)
