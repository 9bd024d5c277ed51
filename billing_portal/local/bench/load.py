"""A customer's platform in a benchmark: organizations, calls as they are sent, and connections that post them."""

import http.client
import random
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from accounts import api_keys
from accounts.models import ApiKey, Organization
from usage import prices

MONTH, ENDS_AT = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
_VOICES = ("elevenlabs_tts", "cartesia_tts", "openai_tts")
_MODELS = ("gpt_4o_mini", "gpt_4o", "gemini_2_0_flash", "gpt_4_1")
_TELEPHONY = ("retell_twilio", "custom_telephony")
_STATUSES = ("user_hangup", "agent_hangup", "call_transfer")


def organizations(count: int) -> list[Organization]:
    """Return `count` organizations with list prices in force, made unless they are there."""
    path = Path(prices.__file__).parent / "price_books" / "parley.toml"
    prices.load(tomllib.loads(path.read_text()), now=datetime(2024, 1, 1, tzinfo=UTC))
    Organization.objects.bulk_create(
        [
            Organization(
                reference=f"bench-{number}", name=f"Bench {number}", currency="USD", time_zone="UTC", created_at=MONTH
            )
            for number in range(count)
        ],
        ignore_conflicts=True,
    )
    return list(Organization.objects.filter(reference__startswith="bench-").order_by("id")[:count])


def calls(
    count: int,
    references: Sequence[str],
    *,
    seed: int = 1,
    personal: bool = False,
    span: timedelta = timedelta(days=30),
) -> Iterator[bytes]:
    """Yield calls of one month, or of its first `span`, in the order of their start, as JSON.

    The organizations are of Zipf's sizes.

    `personal` adds numbers and metadata, which are stored in a row of their own.
    """
    rng = random.Random(seed)  # noqa: S311 - a benchmark's data
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(references))))
    step = span / max(count, 1)
    for number in range(count):
        (reference,) = rng.choices(references, cum_weights=weights)
        started_at = int((MONTH + step * number).timestamp() * 1000)
        duration_ms = int(rng.lognormvariate(11.8, 0.85)) if rng.random() > 0.07 else 0
        call: dict[str, Any] = {
            "call_id": f"call_{rng.getrandbits(108):027x}",
            "organization": reference,
            "call_type": "phone_call",
            "call_status": "ended" if duration_ms else "not_connected",
            "start_timestamp": started_at,
            "end_timestamp": started_at + duration_ms,
            "duration_ms": duration_ms,
            "direction": rng.choice(("inbound", "outbound")),
            "disconnection_reason": rng.choice(_STATUSES),
            "agent_id": f"agent_{rng.randrange(5)}",
            "agent_name": "Receptionist",
            "products": ["platform", rng.choice(_VOICES), rng.choice(_MODELS), rng.choice(_TELEPHONY)],
            "llm_token_usage": {"average": rng.randrange(500, 6_000), "num_requests": 6},
        }
        if personal:
            call |= {"from_number": "+14155550100", "to_number": "+12125550123", "metadata": {"campaign": "spring"}}
        yield msgspec.json.encode(call)


def bodies(items: Sequence[bytes], size: int) -> list[bytes]:
    """Return request bodies of `size` calls each."""
    return [b"[" + b",".join(items[start : start + size]) + b"]" for start in range(0, len(items), size)]


def key() -> str:
    """Return the secret of a fresh key of the vendor's."""
    scopes = [str(ApiKey.Scope.CALLS_WRITE)]
    _, secret = api_keys.issue(organization=None, name="bench", scopes=scopes, now=datetime.now(UTC))
    return secret


def post(
    port: int, requests: Iterable[bytes], *, secret: str, connections: int = 4, path: str = "/api/v1/calls"
) -> tuple[float, int]:
    """Post all requests over kept connections; return (seconds, items answered as recorded).

    Raises RuntimeError for an answer other than 200.
    """
    left = iter(requests)
    lock, recorded = threading.Lock(), [0]
    failures: list[str] = []

    def work() -> None:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json", "Host": "127.0.0.1"}
        while True:
            with lock:
                body = next(left, None)
            if body is None or failures:
                return
            link.request("POST", path, body, headers)
            response = link.getresponse()
            answer = response.read()
            if response.status != http.HTTPStatus.OK:
                failures.append(f"{response.status} {answer[:300]!r}")
                return
            count = msgspec.json.decode(answer, type=_Counts).recorded
            with lock:
                recorded[0] += count

    threads = [threading.Thread(target=work) for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    return time.perf_counter() - started, recorded[0]


class _Counts(msgspec.Struct):
    recorded: int
