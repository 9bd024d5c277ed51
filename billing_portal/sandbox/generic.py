"""Create, list, retrieve, update and delete for every declared resource."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import StripeError, invalid, missing
from .registry import OPERATIONS, PATHS, RESOURCES, Handler, Resource
from .rendering import page
from .schemas import REFERENCE
from .specification import Operation
from .store import Object

if TYPE_CHECKING:
    from .engine import Sandbox

PAGING = {"limit", "starting_after", "ending_before", "expand"}
SHOWN_WHEN_DELETED = {"customer"}


@dataclass
class Call:
    """One request as the behaviour sees it: typed parameters and the arguments in its path."""

    path: str
    ids: dict[str, str]
    params: dict[str, Any] = field(default_factory=dict)
    is_secret: bool = True
    key: str = ""

    @property
    def id(self) -> str:
        """The last argument in the path."""
        return list(self.ids.values())[-1]


def handler_for(operation: Operation) -> Handler | None:
    """The function that carries out an operation: registered behaviour, else the generic one."""
    if registered := OPERATIONS.get((operation.method, operation.path)):
        return registered
    path, _, last = operation.path.rpartition("/")
    if declared := PATHS.get(operation.path):
        generic = {"GET": list_objects, "POST": create}.get(operation.method)
    elif last.startswith("{") and (declared := PATHS.get(path)):
        generic = {"GET": retrieve, "POST": update, "DELETE": delete}.get(operation.method)
    else:
        return None
    return _bound(generic, declared) if generic else None


def _bound(generic: Callable[..., Any], declared: Resource) -> Handler:
    return lambda box, call: generic(box, call, declared)


def create(box: "Sandbox", call: Call, declared: Resource) -> Object:
    check_references(box, declared.kind, call.params)
    if "id" in call.params and box.store.get(declared.kind, call.params["id"]):
        raise invalid(f"{call.params['id']} already exists.", param="id", code="resource_already_exists")
    fields = box.overlay(declared.kind, call.params)
    if declared.parent:
        fields[declared.parent] = box.get(declared.parent, call.ids[declared.parent])["id"]
    return box.create(declared.kind, **fields)


def require(params: dict[str, Any], *names: str) -> None:
    """Refuse a request without these, where Stripe's specification leaves to behaviour what is required."""
    for name in names:
        if params.get(name) is None:
            raise invalid(f"Missing required param: {name}.", param=name, code="parameter_missing")


def retrieve(box: "Sandbox", call: Call, declared: Resource) -> Object:
    obj = box.store.get(declared.kind, call.id)
    if obj and obj.get("_deleted") and declared.kind in SHOWN_WHEN_DELETED:
        return obj
    return owned(box, call, declared)


def owned(box: "Sandbox", call: Call, declared: Resource) -> Object:
    """The object in the path; one that belongs to another parent counts as missing."""
    obj = box.get(declared.kind, call.id)
    if declared.parent and obj[declared.parent] != call.ids.get(declared.parent):
        raise missing(declared.kind, call.id)
    return obj


def update(box: "Sandbox", call: Call, declared: Resource) -> Object:
    obj = owned(box, call, declared)
    check_references(box, declared.kind, call.params)
    box.change(obj, tell=True, **box.overlay(declared.kind, call.params, obj))
    return obj


def delete(box: "Sandbox", call: Call, declared: Resource) -> Object:
    obj = owned(box, call, declared)
    remove(box, obj)
    return {"id": obj["id"], "object": obj["object"], "deleted": True}


def remove(box: "Sandbox", obj: Object) -> None:
    """Emit the ``deleted`` event with the object as it was, then hide it from everything but its id."""
    box.tell(obj, "deleted")
    box.store.change(obj, _deleted=True)


def list_objects(box: "Sandbox", call: Call, declared: Resource) -> Object:
    params = dict(call.params)
    if declared.parent:
        box.get(declared.parent, call.ids[declared.parent])
        params[declared.parent] = call.ids[declared.parent]
    return page(box, select(box, declared, params), call.params, call.path)


def select(box: "Sandbox", declared: Resource, params: dict[str, Any]) -> list[Object]:
    """The objects a list request asks for, newest first."""
    wanted = {name: value for name, value in params.items() if name not in PAGING}
    if customer := wanted.get("customer"):
        found = box.store.where(declared.kind, customer=customer)
    else:
        found = box.store.all(declared.kind)
    found = [obj for obj in found if not obj.get("_deleted")]
    for name, value in wanted.items():
        matches = declared.filters.get(name) or _equality(box, declared, name)
        found = [obj for obj in found if matches(obj, value)]
    return found[::-1]


def _equality(box: "Sandbox", declared: Resource, name: str) -> Callable[[Object, Any], bool]:
    if name not in box.schemas.properties(declared.kind) and name != declared.parent:
        raise StripeError(
            f"The sandbox does not filter {declared.kind} by {name}", status=501, type="api_error", param=name
        )
    return lambda obj, value: within(obj.get(name), value)


def within(actual: Any, wanted: Any) -> bool:
    """Whether a value equals the filter or lies in its range (``gt``, ``gte``, ``lt``, ``lte``)."""
    if not isinstance(wanted, dict):
        return bool(actual == wanted)
    if actual is None:
        return False
    checks: dict[str, Callable[[Any, Any], bool]] = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }
    return all(checks[name](actual, bound) for name, bound in wanted.items())


def check_references(box: "Sandbox", kind: str, params: dict[str, Any]) -> None:
    """Refuse an id that names nothing, wherever the object's schema says the field refers to a known kind."""
    properties = box.schemas.properties(kind)
    for name, value in params.items():
        branches = properties.get(name, {}).get("x-expansionResources", {}).get("oneOf", ())
        kinds = [branch["$ref"].removeprefix(REFERENCE) for branch in branches]
        known = [k for k in kinds if k in RESOURCES]
        if known and isinstance(value, str) and value and not any(_exists(box, k, value) for k in known):
            raise missing(known[0], value, param=name, status=400)


def _exists(box: "Sandbox", kind: str, key: str) -> bool:
    obj = box.store.get(kind, key)
    return obj is not None and not obj.get("_deleted")
