"""What the sandbox implements: resources (declared) and behaviour (functions).

A resource with a path gets create, list, retrieve, update and delete wherever Stripe's specification has
them; a function registered for the same method and path takes its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .store import Object

Handler = Callable[..., Any]


@dataclass(frozen=True)
class Resource:
    """One kind of object: its id prefix, where it lives, and how it differs from the neutral object."""

    kind: str
    prefix: str
    path: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    events: str | None = None
    parent: str | None = None
    filters: Mapping[str, Callable[[Object, Any], bool]] = field(default_factory=dict)
    present: Callable[[Any, Object, Object], None] | None = None
    includes: Mapping[str, Callable[[Any, Object], Any]] = field(default_factory=dict)
    key: str = "id"

    @property
    def event_prefix(self) -> str:
        return self.events or self.kind


RESOURCES: dict[str, Resource] = {}
PATHS: dict[str, Resource] = {}
OPERATIONS: dict[tuple[str, str], Handler] = {}
PUBLIC: set[tuple[str, str]] = set()  # operations that check their caller themselves
GATES: dict[tuple[str, str], Handler] = {}
JOBS: dict[str, Handler] = {}
LISTENERS: dict[str, list[Handler]] = {}
HOOKS: dict[str, list[Handler]] = {"apply_credits": []}


def resource(kind: str, prefix: str, path: str | None = None, **details: Any) -> Resource:
    """Declare a resource."""
    declared = RESOURCES[kind] = Resource(kind, prefix, path, **details)
    if path:
        PATHS[path] = declared
    return declared


def operation(method: str, path: str) -> Callable[[Handler], Handler]:
    """Register the function that carries out one operation of Stripe's specification."""

    def register(handler: Handler) -> Handler:
        OPERATIONS[method, path] = handler
        return handler

    return register


def job(name: str) -> Callable[[Handler], Handler]:
    """Register the function that runs when an entry of this name falls due."""

    def register(handler: Handler) -> Handler:
        JOBS[name] = handler
        return handler

    return register


def listener(event_type: str) -> Callable[[Handler], Handler]:
    """Register a function that is told of every event of a type, within the same transaction."""

    def register(handler: Handler) -> Handler:
        LISTENERS.setdefault(event_type, []).append(handler)
        return handler

    return register
