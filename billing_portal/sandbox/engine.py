"""The engine: one sandbox account, its objects, its time, its events."""

import contextlib
import random
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from . import api, registry
from .clock import Agenda, Clock
from .errors import InvalidAnswer, missing
from .faults import Faults
from .forms import Coercer
from .rendering import render
from .resources import accounts, authentication
from .schemas import REFERENCE, Schemas
from .specification import Operation, Specification
from .store import Object, Store, snapshot
from .webhooks import Webhooks

if TYPE_CHECKING:
    from .timekeeper import Timekeeper

Result = TypeVar("Result")
ALPHABET = string.ascii_letters + string.digits


class Sandbox:
    """Everything the API's behaviour works with. One call is one transaction; see `api`."""

    def __init__(
        self,
        specification: Specification,
        *,
        state: str | None = None,
        base_url: str = "http://127.0.0.1:12111",
        strict: bool = True,
    ) -> None:
        self.specification = specification
        for method, path in registry.OPERATIONS:
            specification.allow(method, path)
        self.schemas = Schemas(specification)
        self.coercer = Coercer(self.schemas)
        self.store = Store(state)
        self.clock = Clock(self.store)
        self.agenda = Agenda(self.store)
        self.faults = Faults()
        self.base_url = base_url
        self.strict = strict
        self.request: dict[str, str | None] = {"id": None, "idempotency_key": None}
        self.hooks = registry.HOOKS
        self.derived: dict[str, Any] = {}  # caches that behaviour rebuilds from the store
        self.aggregation_seconds = 0.2
        self.webhooks = Webhooks(self)
        self.timekeeper: Timekeeper | None = None

    # Time

    def now(self) -> int:
        """The current instant of the sandbox, in whole seconds."""
        return int(self.clock.exact())

    def time_of(self, obj: Object) -> int:
        """The instant at which an object lives: its test clock's, else the sandbox's."""
        clock = self.store.get("test_helpers.test_clock", obj.get("test_clock") or "")
        return clock["frozen_time"] if clock else self.now()

    def schedule(self, name: str, obj: Object, due: float) -> None:
        """Have a job run for an object when its clock gets there."""
        self.agenda.put(name, obj["id"], due, obj.get("test_clock") or "")

    def date(self) -> tuple[int, int, int]:
        """Year, month and day (UTC) of the current instant."""
        today = datetime.fromtimestamp(self.clock.exact(), UTC)
        return today.year, today.month, today.day

    # Objects

    def new_id(self, prefix: str, length: int = 24) -> str:
        return f"{prefix}_" + "".join(random.choices(ALPHABET, k=length))  # noqa: S311 -- an id is no secret

    def build(self, kind: str, **fields: Any) -> Object:
        """A valid object of a kind that is not stored: neutral, then the declared defaults, then the fields."""
        declared = registry.RESOURCES.get(kind)
        obj = self.schemas.neutral(kind)
        if declared:
            obj |= snapshot(dict(declared.defaults))
        if "created" in self.schemas.properties(kind):
            obj["created"] = self.now()
        return obj | fields

    def create(self, kind: str, *, emit: bool = True, **fields: Any) -> Object:
        """Store a new object and, where Stripe has such an event, say that it was created."""
        declared = registry.RESOURCES[kind]
        obj = self.build(kind, **fields)
        if declared.key == "id":
            obj["id"] = fields.get("id") or self.new_id(declared.prefix)
        self.store.insert(kind, obj[declared.key], obj)
        if emit:
            self.tell(obj, "created")
        return obj

    def get(self, kind: str, key: str | None, *, param: str | None = None) -> Object:
        """The object with this id. A name in a parameter that leads nowhere is a 400, in the path a 404."""
        obj = self.store.get(kind, key or "")
        if obj is None or obj.get("_deleted"):
            raise missing(kind, str(key), param=param or "id", status=400 if param else 404)
        return obj

    def change(self, obj: Object, *, tell: bool = False, **changes: Any) -> dict[str, Any]:
        """Set fields; with ``tell`` also emit the kind's ``updated`` event with the previous values."""
        before = self.store.change(obj, **changes)
        shown = {name: value for name, value in before.items() if not name.startswith("_")}
        if tell and shown:
            self.tell(obj, "updated", shown)
        return shown

    def overlay(self, kind: str, params: dict[str, Any], base: Object | None = None) -> dict[str, Any]:
        """The request's parameters that the object shows under the same name, as it shows them."""
        properties = self.schemas.properties(kind)
        return {
            name: self._whole(
                properties[name], self.schemas.overlay(properties[name], value, (base or {}).get(name)), name
            )
            for name, value in params.items()
            if name in properties and name != "expand"
        }

    def _whole(self, schema: Object, value: Any, param: str) -> Any:
        """Where an object shows others whole, such as tax rates, a request names them by their ids."""
        items = schema.get("items", {})
        if "$ref" not in items or not isinstance(value, list):
            return value
        kind = items["$ref"].removeprefix(REFERENCE)
        return [render(self, self.get(kind, v, param=param)) if isinstance(v, str) else v for v in value]

    def account(self) -> Object:
        """The account that the sandbox is."""
        return accounts.own(self)

    async def authenticate(self, intent_id: str, *, succeeded: bool) -> Object:
        """End a 3-D Secure challenge, as the bank's page does."""
        return render(self, self.step(authentication.finish, intent_id, succeeded))

    def step(self, behaviour: Callable[..., Result], *arguments: Any) -> Result:
        """Carry out what a page of the sandbox does and Stripe's API has no call for, as one transaction."""
        try:
            result = behaviour(self, *arguments)
        except Exception:
            self.rollback()
            raise
        self.commit()
        return result

    # Events

    def tell(self, obj: Object, verb: str, previous: dict[str, Any] | None = None) -> None:
        """Emit ``<kind>.<verb>`` if Stripe has an event of that name."""
        name = f"{registry.RESOURCES[obj['_kind']].event_prefix}.{verb}"
        if name in self.specification.event_types:
            self.emit(name, obj, previous)

    def emit(self, name: str, obj: Object, previous: dict[str, Any] | None = None) -> Object:
        """Record an event with a snapshot of the object as it is now."""
        if name not in self.specification.event_types:
            raise InvalidAnswer(f"Stripe has no event {name!r}")
        data: dict[str, Any] = {"object": snapshot(render(self, obj) if "_kind" in obj else obj)}
        if previous is not None:
            data["previous_attributes"] = snapshot(previous)
        event = self.build(
            "event",
            id=self.new_id("evt"),
            type=name,
            api_version=self.specification.version,
            data=data,
            request=dict(self.request),
            created=self.now(),
        )
        if self.strict:
            self.schemas.check("event", event)
        self.store.insert("event", event["id"], event)
        event["pending_webhooks"] = self.webhooks.prepare(event)
        for listener in registry.LISTENERS.get(name, ()):
            listener(self, obj)
        return event

    # Requests

    def request_schema(self, operation: Operation, *, is_secret: bool) -> Object:
        """What may be sent. A browser also sends card numbers, which the published text leaves out."""
        schema = operation.request_schema
        if is_secret or "payment_method_data" not in schema.get("properties", {}):
            return schema
        properties = dict(schema["properties"])
        data = properties["payment_method_data"]
        methods = self.specification.operations["POST", "/v1/payment_methods"].request_schema
        card = {"card": methods["properties"]["card"]}
        properties["payment_method_data"] = data | {"properties": data["properties"] | card}
        return schema | {"properties": properties}

    # Transactions

    def gate(self, operation: Operation, call: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        """What a request has to pass before its transaction, where an operation has such a thing."""
        opener = registry.GATES.get((operation.method, operation.path))
        return opener(self, call) if opener else contextlib.nullcontext()

    def commit(self) -> None:
        """Keep what was done since the last commit and let its events go out."""
        self.store.commit()
        self.webhooks.release()

    @contextlib.contextmanager
    def pretend(self) -> Iterator[None]:
        """Do things for real, look at them, and undo them; nobody is told."""
        mark = self.store.mark()
        self.webhooks.mute(True)
        try:
            yield
        finally:
            self.webhooks.mute(False)
            self.store.rollback(mark)

    def rollback(self) -> None:
        self.store.rollback()
        self.webhooks.forget()

    def reset(self) -> None:
        """Back to an empty account on the wall clock."""
        self.store.clear()
        self.faults = Faults()
        self.webhooks.forget()
        self.clock = Clock(self.store)
        self.agenda = Agenda(self.store)
        self.derived.clear()

    # What the sandbox's own pages use

    async def call(self, method: str, path: str, params: dict[str, Any]) -> tuple[int, Object]:
        """Carry out one API request in this process, as the account's owner."""
        answer = await api.answer(self, api.Request(method, path, values=params, key="sk_test_sandbox"))
        return answer.status, answer.body

    def objects(self, kind: str) -> list[Object]:
        """Every object of a kind as the API shows it, oldest first."""
        return [render(self, obj) for obj in self.store.all(kind)]

    def retrieve(self, kind: str, key: str) -> Object:
        return render(self, self.get(kind, key))

    def events(self) -> list[Object]:
        return self.objects("event")

    def kinds(self) -> list[str]:
        return [kind for kind in self.store.tables if not kind.startswith("_") and self.store.tables[kind]]
