"""What the API shows of stored objects: without private fields, with lists, expanded where asked."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import invalid
from .registry import RESOURCES
from .store import Object, snapshot

if TYPE_CHECKING:
    from .engine import Sandbox

DEPTH = 4


def render(box: "Sandbox", obj: Object, expand: Iterable[str] = ()) -> Object:
    """An object as Stripe would send it. The result shares nested values with the stored object."""
    if obj.get("_deleted"):
        return {"id": obj["id"], "object": obj["object"], "deleted": True}
    shown = {name: value for name, value in obj.items() if not name.startswith("_")}
    declared = RESOURCES.get(obj.get("_kind", ""))
    if declared and declared.present:
        declared.present(box, obj, shown)
    paths = list(expand)
    if box.strict and shown.get("object") not in {None, "list"}:
        box.schemas.check_object(shown)
    if paths:
        shown = snapshot(shown)
        for path in paths:
            expand_path(box, shown, path.split("."), path)
    return shown


def expand_path(box: "Sandbox", shown: Any, steps: list[str], path: str) -> None:
    """Replace the ids at the end of a path such as ``data.customer`` by the objects they name."""
    if len(steps) > DEPTH + 1:
        raise invalid(f"You cannot expand more than {DEPTH} levels of a property ({path})", param="expand")
    if isinstance(shown, list):
        for item in shown:
            expand_path(box, item, steps, path)
        return
    if not isinstance(shown, dict):
        return
    step, *rest = steps
    _include(box, shown, step, path)
    value = shown[step]
    if isinstance(value, str) or _is_id_list(value):
        shown[step] = _looked_up(box, value, path)
    if rest and shown[step] is not None:
        expand_path(box, shown[step], rest, path)


def _include(box: "Sandbox", shown: Object, step: str, path: str) -> None:
    """Add a field that Stripe sends only when asked for it, or refuse an unknown one."""
    declared = RESOURCES.get(_kind(shown))
    include = declared.includes.get(step) if declared else None
    if declared and include:
        stored = box.store.get(declared.kind, shown[declared.key])
        shown[step] = snapshot(include(box, stored or shown))
    elif step not in shown:
        kind = _kind(shown)
        known = box.schemas.properties(kind) if kind in box.schemas.named else {step: None}
        if step not in known:
            raise invalid(f"This property cannot be expanded ({path}).", param="expand[0]")
        shown[step] = None


def _looked_up(box: "Sandbox", value: Any, path: str) -> Any:
    if isinstance(value, list):
        return [_looked_up(box, item, path) for item in value]
    target = box.store.find(value)
    if target is None:
        raise invalid(f"This property cannot be expanded ({path}).", param="expand[0]")
    return snapshot(render(box, target))


def _is_id_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _kind(shown: Object) -> str:
    return str(shown.get("object", ""))


def as_list(items: list[Object], url: str, *, has_more: bool = False) -> Object:
    return {"object": "list", "data": items, "has_more": has_more, "url": url}


def page(box: "Sandbox", objects: list[Object], params: dict[str, Any], url: str) -> Object:
    """One page of a list, given in the order Stripe shows it (newest first for most kinds)."""
    limit = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise invalid(f"Invalid integer: {limit}; must be between 1 and 100", param="limit")
    start, end = 0, len(objects)
    if after := params.get("starting_after"):
        start = _position(objects, after, "starting_after") + 1
        end = start + limit
    elif before := params.get("ending_before"):
        end = _position(objects, before, "ending_before")
        start = max(0, end - limit)
        has_more = start > 0
        return as_list([render(box, o) for o in objects[start:end]], url, has_more=has_more)
    else:
        end = limit
    return as_list([render(box, o) for o in objects[start:end]], url, has_more=end < len(objects))


def _position(objects: list[Object], key: str, param: str) -> int:
    for index, obj in enumerate(objects):
        if obj["_key"] == key:
            return index
    raise invalid(f"No such object: '{key}'", param=param, code="resource_missing")
