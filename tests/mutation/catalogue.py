"""The mutants of a source file: mutmut's, and changes of the SQL in it."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

_SKIPPED_NODES = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom)
# What is said to people who read logs is not held by tests; the others have no behaviour of their own.
_SKIPPED_CALLS = re.compile(r"^(log\.\w+|structlog\.\w+|isinstance|len|cast|TypeVar|ParamSpec)$")
# `strict` and `update_fields` guard against what the rest of the code does not do; a description is prose.
_SKIPPED_ARGUMENTS = {"strict", "update_fields", "description"}
_TYPES = {"Callable", "Literal", "Mapping"}
_IS_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|JOIN|WHERE|organization_id =)\b")
_SQL_CHANGES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"<=", "<"),
        (r">=", ">"),
        (r"<>", "="),
        (r"(?<![<>])=", "<>"),
        (r"<(?![=>])", "<="),
        (r"(?<![<-])>(?!=)", ">="),
        (r"\bAND\b", "OR"),
        (r"\bOR\b", "AND"),
        (r"\bIS NULL\b", "IS NOT NULL"),
        (r"\bIS NOT NULL\b", "IS NULL"),
        (r"\bNOT EXISTS\b", "EXISTS"),
        (r"\bDESC\b", "ASC"),
        (r"\bmax\(", "min("),
        (r"\bmin\(", "max("),
        (r"\b(LEFT|FULL) JOIN\b", "JOIN"),
        (r" \+ ", " - "),
        (r" - ", " + "),
        (r"(?<![\w.>)])-(?=[a-z])", ""),
        (r"(?<=[ (])0\b", "1"),
        (r"(?<=[ (])1\b", "2"),
        (r"'(?=\w)", "'XX"),
    ]
]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. `scope` is the function it is in, empty for a constant; `lines` are those that must be reached."""

    module: str
    scope: str
    label: str
    lines: range
    source: str

    @property
    def name(self) -> str:
        return f"{self.module}.{self.scope or '(constants)'}: {self.label}"


class SourceFile:
    """A module's code, statement by statement, so that a mutant costs only the statement it is in."""

    def __init__(self, path: Path, module: str) -> None:
        self.path = path
        self.module = module
        self.text = path.read_text()
        self._wrapper = MetadataWrapper(cst.parse_module(self.text), unsafe_skip_copy=True)
        self._tree = self._wrapper.module
        self._position = self._wrapper.resolve(PositionProvider)

    @cached_property
    def mutants(self) -> list[Mutant]:
        known: Counter[str] = Counter()
        found = []
        for statement in self._tree.body:
            for scope, place, node, changed in _changes(statement, ""):
                if not scope and ".models." in self.module:
                    continue  # read when the models were made, as their fields are
                source = self._with(statement, node, changed)
                if source == self.text:
                    continue
                label = _label(self.text, source)
                known[scope + label] += 1
                if known[scope + label] > 1:
                    label = f"{label} #{known[scope + label]}"
                found.append(Mutant(self.module, scope, label, self._lines(place), source))
        return found

    def _with(self, statement: cst.CSTNode, node: cst.CSTNode, changed: cst.CSTNode) -> str:
        before = self._tree.code_for_node(statement)
        after = self._tree.code_for_node(_replaced(statement, node, changed))
        starts_at = self._starts[statement]
        return self.text[:starts_at] + after + self.text[starts_at + len(before) :]

    @cached_property
    def _starts(self) -> dict[cst.CSTNode, int]:
        at = sum(len(self._tree.code_for_node(line)) for line in self._tree.header)
        starts = {}
        for statement in self._tree.body:
            starts[statement] = at
            at += len(self._tree.code_for_node(statement))
        return starts

    def _lines(self, node: cst.CSTNode) -> range:
        """Return the lines of the smallest node with a place that holds `node`."""
        where = self._position.get(node)
        return range(where.start.line, where.end.line + 1) if where else range(0)


def _changes(
    node: cst.CSTNode, scope: str, place: cst.CSTNode | None = None
) -> Iterator[tuple[str, cst.CSTNode, cst.CSTNode, cst.CSTNode]]:
    """Yield (function, where it is noticed, node, what it becomes) for the node and all below it.

    A default is noticed anywhere in its function: its own line is run once, when the module is loaded.
    """
    if isinstance(node, cst.ClassDef):
        # Fields and constants of classes are made when the module is loaded; only methods can be exchanged.
        for each in node.body.body:
            if isinstance(each, cst.FunctionDef):
                yield from _changes(each, f"{node.name.value}.")
        return
    if _is_skipped(node):
        return
    if isinstance(node, cst.FunctionDef):
        scope = f"{scope}{node.name.value}" if not scope or scope.endswith(".") else scope
    if not isinstance(node, cst.SimpleStatementLine | cst.Param):
        yield from ((scope, place or node, node, changed) for changed in _variants(node))
    for child in node.children:
        yield from _changes(child, scope, node if isinstance(child, cst.Parameters) else place)


def _is_skipped(node: cst.CSTNode) -> bool:
    if isinstance(node, _SKIPPED_NODES):
        return True
    if isinstance(node, cst.Call):
        return bool(_SKIPPED_CALLS.match(cst.Module([]).code_for_node(node.func)))
    if isinstance(node, cst.Arg):
        return node.keyword is not None and node.keyword.value in _SKIPPED_ARGUMENTS
    if isinstance(node, cst.Subscript):
        return isinstance(node.value, cst.Name) and node.value.value in _TYPES
    if isinstance(node, cst.SimpleString | cst.FormattedStringText):
        return _is_prose(node.value)
    if isinstance(node, cst.Expr):
        return isinstance(node.value, cst.SimpleString)  # a docstring
    return False


def _is_prose(text: str) -> bool:
    """Whether a text is for people: held word by word, a test would only say it twice."""
    return " " in text.strip("\"' ") and not _IS_SQL.search(text)


def _variants(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    if isinstance(node, cst.SimpleString | cst.FormattedStringText) and _IS_SQL.search(node.value):
        yield from _sql_variants(node)
        return
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            variants = [each for each in operator(node) if _keeps_what_is_skipped(node, each)]
            # Of a text one change is enough: in capitals or not, it is another text.
            yield from variants[:1] if isinstance(node, cst.BaseString) else variants


def _keeps_what_is_skipped(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """Whether a call keeps the arguments that are left out: a change of the call may take one away as a whole."""
    if not isinstance(node, cst.Call) or not isinstance(changed, cst.Call):
        return True
    kept = {*map(id, changed.args)}
    return all(id(argument) in kept for argument in node.args if _is_skipped(argument))


def _sql_variants(node: cst.SimpleString | cst.FormattedStringText) -> Iterator[cst.CSTNode]:
    for pattern, replacement in _SQL_CHANGES:
        for match in pattern.finditer(node.value):
            value = node.value[: match.start()] + replacement + node.value[match.end() :]
            yield node.with_changes(value=value)


def _replaced(tree: cst.CSTNode, old: cst.CSTNode, new: cst.CSTNode) -> cst.CSTNode:
    changed = tree.visit(_Replacement(old, new))
    assert isinstance(changed, cst.CSTNode)
    return changed


class _Replacement(cst.CSTTransformer):
    def __init__(self, old: cst.CSTNode, new: cst.CSTNode) -> None:
        self.old, self.new, self.done = old, new, False

    def on_visit(self, node: cst.CSTNode) -> bool:
        return not self.done and node is not self.old

    def on_leave(self, original: cst.CSTNode, updated: cst.CSTNode) -> cst.CSTNode:  # type: ignore[override]
        if original is self.old:
            self.done = True
            return self.new
        return updated


def _label(before: str, after: str) -> str:
    """Say what changed, with a little of the line around it: `if owed [> ⇒ >=] 0:`."""
    start = _common(before, after)
    while start and (before[start - 1].isalnum() or before[start - 1] in "_."):
        start -= 1
    end = _common(before[start:][::-1], after[start:][::-1])
    while end and (before[-end].isalnum() or before[-end] in "_."):
        end -= 1
    head = before[:start].rpartition("\n")[2].lstrip()[-32:]
    tail = before[len(before) - end :].partition("\n")[0].rstrip()[:24]
    old, new = (" ".join(text[start : len(text) - end].split()) for text in (before, after))
    return f"{head}[{old} ⇒ {new}]{tail}"


def _common(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)
