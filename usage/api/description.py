"""The API's description in OpenAPI 3.1, made of the very types that are read and sent."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from accounts import idempotency, problems
from usage.api import answers, cloud_events, queries
from usage.api.cloud_events import CloudEvent
from usage.api.lago_events import LagoBatchRecorded, LagoEvent, LagoRecorded
from usage.call_objects import CallItem
from usage.ingestion import MAX_ITEMS
from usage.outcomes.event_items import KINDS

View = TypeVar("View", bound=Callable[..., Any])
_REFERENCES = "#/components/schemas/{name}"
_ANSWERS = (
    answers.Recorded,
    answers.EventsRecorded,
    answers.CallPage,
    answers.CallRecord,
    answers.ImportReport,
    answers.UsageReport,
    answers.ProblemDocument,
    LagoRecorded,
    LagoBatchRecorded,
)
_READ = (CallItem, CloudEvent, LagoEvent)
# What is answered by addresses that stand in other modules, or in packages above this one.
_more: dict[type[msgspec.Struct], None] = {}
# Decimals are written as JSON numbers here; msgspec's own schema knows them as texts only.
_NUMBER = {"type": ["number", "null"], "minimum": 0}
_INSTANT = {
    "anyOf": [
        {"type": "integer", "description": "Milliseconds since 1970."},
        {"type": "string", "format": "date-time"},
    ],
}
_PROBLEMS = {
    400: "The body or a parameter could not be read; nothing was recorded.",
    401: "The API key is missing, unknown, revoked or expired, or the signature is wrong.",
    403: "The API key lacks the scope.",
    404: "There is no such call or organization, or the key may not know of it.",
    406: "The answer comes as JSON only.",
    409: "A request with the same `Idempotency-Key` is at work: `Retry-After` says when to ask for its answer. Or what "
    "is asked for is not there yet, and the problem says what it waits for.",
    410: "The call was recorded, and its month is archived: sums and invoices count it, its facts are not at hand.",
    411: "The body's length is missing, and the server in front cannot do without; nothing was recorded.",
    413: "The body is larger than 10 MB, as it came or unpacked; nothing was recorded.",
    415: "The body is of another type or encoding than listed; nothing was recorded.",
    422: (
        f"The body holds more than {MAX_ITEMS:,} items, or some events were refused, or the `Idempotency-Key` stands "
        "for another request."
    ),
    429: "Too many requests, of this key or at once; nothing was recorded. `Retry-After` says when to come again.",
    503: "The database did not answer in time. `Retry-After` says when to come again; that is safe.",
}
_BODY_DESCRIPTION = f"""
An array of at most {MAX_ITEMS:,} call objects in Retell's published shape, or an object with it as `calls`; 10 MB at
most.

Every item stands for itself: it is **recorded**, or it is a **duplicate** (the same content is known under its id), a
**conflict** (other content is known under its id, which stays) or **rejected**, with the field and the reason. The
answer is 200 also when items were rejected: what became of each stands in `items`, by `index`. To send a request again
is always safe. Only a body whose JSON is broken, or that is too large, is refused as a whole.

A body may be packed: `Content-Encoding: gzip`.

A call with a product that no price covers is recorded with `rated: false`, and rated when its price arrives. Fields
that are not listed are kept as they come.
"""
_CONVERSATIONS_DESCRIPTION = f"""
An array of at most {MAX_ITEMS:,} events, or an object with it as `events`; 10 MB at most. `type` is one of
{", ".join(f"`{kind}`" for kind in KINDS)}.

Events may come late, twice and in any order: what became of a conversation depends on the set of its events alone.
Every event stands for itself: it is **recorded**, a **duplicate**, a **conflict** (other content is known under its id)
or **rejected**, with the field and the reason. One whose answer is not known yet is **held**: recorded, and counted as
soon as the answer before it is. The answer is 200 also when events were rejected. Fields that are not listed are kept.
"""
_EVENTS_DESCRIPTION = f"""
CloudEvents 1.0, structured (one, or a batch of at most {MAX_ITEMS:,}) or binary (attributes as `ce-…` headers, data as
the body), as OpenMeter's and other clients send them, and Lago's `{{"event": …}}` and `{{"events": […]}}`.

What is recorded depends on the event's `type` (Lago: `code`). `call.ended` (or `call_ended`) records a call: `data`
(Lago: `properties`) is a call object as `POST /api/v1/calls` takes it, and may leave out what the event says already:
`call_id` (the event's `id`), `organization` (its `subject`; Lago: `external_subscription_id`), `call_status`, and, with
`duration_ms`, `start_timestamp` (the call ended at the event's `time`). `conversation.ai_answered` and its like record
what happened in a conversation: `data` is an event as `POST /api/v1/conversations/events` takes it, without what the
event says already.

Every event stands for itself, as a call does. When all are recorded, or were before, the answer is 204, or in Lago's
shape 200. When some are refused, the others are recorded and the answer is 422, with the refused ones and why. With the
header `Prefer: return=representation` the answer is always 200 and says what became of each event.
"""
_FILES_DESCRIPTION = """
A file of calls: JSON (an array, or an object a line), CSV, whose columns are the fields of a call object, or Parquet;
JSON and CSV also as `.gz` or `.xz`. It is recorded in the background as `POST /api/v1/calls` would. Ask `address` how
far it is. To send a file again is safe: what is recorded already is a duplicate.
"""
_RETELL_DESCRIPTION = """
Retell's webhooks, signed as Retell signs them. `call_analyzed` records its call; `call_ended` is held until the
analysis comes, since that adds to what the call costs, and recorded as it is when none came within an hour. Other
events are ignored. The organization is the one whose key signed, else the parameter's, else the call's
`metadata.organization`.
"""
_IDEMPOTENCY_KEY = OpenApiParameter(
    idempotency.HEADER,
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "header",
    description="The same key with the same request gets the same answer again, for a day, with the header "
    f"`{idempotency.REPLAYED}: true`.",
)
_EVENT_HEADERS = [
    _IDEMPOTENCY_KEY,
    OpenApiParameter("Prefer", str, "header", description="`return=representation`: answer each event for itself."),
    *(
        OpenApiParameter(f"ce-{name}", str, "header", description=f"In binary mode: the event's {name}.")
        for name in ("specversion", "id", "type", "source", "subject", "time", "sequence")
    ),
]


class Generator(SchemaGenerator):
    """Adds what drf-spectacular cannot know: the schemas, and that a body must be there."""

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        result: dict[str, Any] = super().get_schema(request, public)  # type: ignore[no-untyped-call]
        result["components"]["schemas"] = schemas()
        for path in result["paths"].values():
            for operation in path.values():
                if "requestBody" in operation:
                    operation["requestBody"]["required"] = True
        return result


def join(*kinds: type[msgspec.Struct]) -> None:
    """Let types of a package above this one stand in the description; it calls this when its addresses are loaded."""
    _more.update(dict.fromkeys(kinds))


def schemas() -> dict[str, Any]:
    """Return all schemas by name."""
    components = msgspec.json.schema_components([*_ANSWERS, *_more, *_READ], ref_template=_REFERENCES)[1]
    call, tokens = components["CallItem"]["properties"], components["TokenUsage"]["properties"]
    call["start_timestamp"] = _INSTANT
    call["end_timestamp"] = {"anyOf": [*_INSTANT["anyOf"], {"type": "null"}], "default": None}
    tokens["average"] = tokens["num_requests"] = _NUMBER
    return components


def reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the reference to the schema of a type."""
    return {"$ref": _REFERENCES.format(name=kind.__name__)}


def reads(
    operation: str, *, query: type[msgspec.Struct], answer: type[msgspec.Struct], more: Sequence[int] = ()
) -> Callable[[View], View]:
    """Describe a GET; `more` are problems that not every GET has."""
    if answer not in _ANSWERS:
        _more[answer] = None
    return _described(
        operation_id=operation,
        parameters=parameters(query),
        responses={200: OpenApiResponse(reference(answer)), **_problems(400, 401, 403, 404, 406, *more, 429, 503)},
    )


def streams(operation: str, *, query: type[msgspec.Struct], content_type: str, row: str) -> Callable[[View], View]:
    """Describe a GET whose answer is a file, sent while it is read."""
    file = OpenApiResponse(
        {"type": "string"},
        description=f"{row}; the columns are named in it. An answer that ends early, without the last chunk of its "
        "transfer, is not whole.",
    )
    return _described(
        operation_id=operation,
        parameters=parameters(query),
        responses={(200, content_type): file, **_problems(400, 401, 403, 404, 406, 429, 503)},
    )


def sends_file(
    operation: str, *, query: type[msgspec.Struct], content_type: str, more: Sequence[int] = ()
) -> Callable[[View], View]:
    """Describe a GET whose answer is a file as it was made; `more` are problems that not every GET has."""
    file = OpenApiResponse({"type": "string", "format": "binary"}, description="The file.")
    return _described(
        operation_id=operation,
        parameters=parameters(query),
        responses={(200, content_type): file, **_problems(400, 401, 403, 404, 406, *more, 429, 503)},
    )


def records(operation: str) -> Callable[[View], View]:
    """Describe the POST of calls. Any item is accepted, since a wrong one is answered for itself."""
    array = _array(_item(CallItem))
    return _described(
        operation_id=operation,
        description=_BODY_DESCRIPTION.strip(),
        parameters=[_IDEMPOTENCY_KEY],
        request={"application/json": {"oneOf": [array, _wrapped("calls", array)]}},
        responses={
            200: OpenApiResponse(reference(answers.Recorded), description="What became of each item."),
            **_problems(400, 401, 403, 406, 409, 411, 413, 415, 422, 429, 503),
        },
    )


def records_conversations(
    operation: str, item: type[msgspec.Struct], answer: type[msgspec.Struct]
) -> Callable[[View], View]:
    """Describe the POST of conversation events."""
    _more.update({item: None, answer: None})
    array = _array(_item(item))
    return _described(
        operation_id=operation,
        description=_CONVERSATIONS_DESCRIPTION.strip(),
        parameters=[_IDEMPOTENCY_KEY],
        request={"application/json": {"oneOf": [array, _wrapped("events", array)]}},
        responses={
            200: OpenApiResponse(reference(answer), description="What became of each event."),
            **_problems(400, 401, 403, 406, 409, 411, 413, 415, 422, 429, 503),
        },
    )


def takes_events(operation: str) -> Callable[[View], View]:
    """Describe the POST of events, in every envelope."""
    one = _item(CloudEvent)
    in_headers = {"type": "object", "description": "In binary mode, the event's data."}
    lago_one = _wrapped("event", _item(LagoEvent))
    return _described(
        operation_id=operation,
        description=_EVENTS_DESCRIPTION.strip(),
        parameters=_EVENT_HEADERS,
        request={
            cloud_events.BATCH: _array(one),
            cloud_events.ONE: {"type": "object"} | one,
            "application/json": {"anyOf": [_array(one), reference(CloudEvent), lago_one, _lago_batch(), in_headers]},
        },
        responses=_event_answers(LagoRecorded, LagoBatchRecorded),
    )


def takes_lago_batches(operation: str) -> Callable[[View], View]:
    """Describe the POST of Lago's batches at the address that Lago has for them."""
    return _described(
        operation_id=operation,
        description="The same as `POST /api/v1/events`: Lago's clients send batches here.",
        parameters=_EVENT_HEADERS[:2],
        request={"application/json": _lago_batch()},
        responses=_event_answers(LagoBatchRecorded),
    )


def takes_files(operation: str, *, query: type[msgspec.Struct], types: list[str]) -> Callable[[View], View]:
    """Describe the POST of a file, as the body or in a form."""
    file = {"type": "string", "format": "binary", "minLength": 1}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return _described(
        operation_id=operation,
        description=_FILES_DESCRIPTION.strip(),
        parameters=parameters(query),
        request={**dict.fromkeys(types, file), "multipart/form-data": form},
        responses={
            202: OpenApiResponse(reference(answers.ImportReport), description="The file is here, to be recorded."),
            **_problems(400, 401, 403, 404, 406, 411, 413, 415, 429, 503),
        },
    )


def takes_retell_webhooks(operation: str) -> Callable[[View], View]:
    """Describe where Retell posts; whoever signs as Retell does is taken for it."""
    event = {"type": "object", "properties": {"event": {"type": "string"}, "call": {}}, "required": ["event"]}
    signature = OpenApiParameter("X-Retell-Signature", str, "header", required=True, description="As Retell signs.")
    return _described(
        operation_id=operation,
        description=_RETELL_DESCRIPTION.strip(),
        parameters=[signature, *parameters(queries.OrganizationQuery)],
        request={"application/json": event},
        responses={
            204: OpenApiResponse(description="The call is held or recorded, or nothing has to be."),
            **_problems(400, 401, 406, 411, 413, 415, 503),
        },
        auth=[],
    )


def _event_answers(*lago: type[msgspec.Struct]) -> dict[Any, OpenApiResponse]:
    documents = [reference(answers.EventsRecorded), *map(reference, lago)]
    return {
        200: OpenApiResponse({"anyOf": documents}, description="What became of each event, or the events as Lago has."),
        204: OpenApiResponse(description="Every event is recorded, or was before."),
        **_problems(400, 401, 403, 406, 409, 411, 413, 415, 422, 429, 503),
    }


def _lago_batch() -> dict[str, Any]:
    return _wrapped("events", _array(_item(LagoEvent)))


def _item(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"anyOf": [reference(kind), {"description": "Anything else is answered as rejected."}]}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "maxItems": MAX_ITEMS, "items": items}


def _wrapped(name: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: content}, "required": [name], "additionalProperties": False}


def _described(**options: Any) -> Callable[[View], View]:
    decorate: Callable[[View], View] = extend_schema(tags=["usage"], **options)
    return decorate


def parameters(query: type[msgspec.Struct]) -> list[OpenApiParameter]:
    """Return the parameters that a query's fields are."""
    schema = msgspec.json.schema(query)["$defs"][query.__name__]
    found = []
    for name, property_schema in schema["properties"].items():
        described = dict(property_schema)
        if described.get("default") in ("", None):
            described.pop("default", None)
        description = described.pop("description", "")
        found.append(OpenApiParameter(name, described, description=description))
    return found


def _problems(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    document = reference(answers.ProblemDocument)
    return {
        (status, problems.CONTENT_TYPE): OpenApiResponse(document, description=_PROBLEMS[status]) for status in statuses
    }
