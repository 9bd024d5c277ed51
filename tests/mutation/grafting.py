"""Putting a mutant in the place of live code, in a process that has loaded everything and is about to die."""

import ast
import gc
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

Key = tuple[str, int]  # a qualified name, and which of those that share it


class NotLive(LookupError):
    """No live function was made from the file's text: it changed since it was loaded."""


class Host:
    """A loaded module, and all functions that were made from its file, wherever a decorator has put them."""

    def __init__(self, module: str) -> None:
        self.module: ModuleType = import_module(module)
        self.file = str(self.module.__file__)
        self.text = Path(self.file).read_text()
        named = {(code.co_qualname, code.co_firstlineno): key for key, code in _by_key(self._compiled(self.text))}
        self.functions: dict[Key, list[FunctionType]] = defaultdict(list)
        for each in gc.get_objects():
            if isinstance(each, FunctionType) and each.__code__.co_filename == self.file:
                key = named.get((each.__code__.co_qualname, each.__code__.co_firstlineno))
                if key:
                    self.functions[key].append(each)

    def graft(self, source: str, scope: str) -> None:
        """Let the module behave as `source` says. Raises what loading such a module would raise, and NotLive."""
        if not scope:
            self._set_constants(source)
            return
        codes = dict(_by_key(self._compiled(source)))
        for key, functions in self.functions.items():
            if key[0] == scope or key[0].startswith(f"{scope}.<locals>."):
                for function in functions:
                    function.__code__ = codes[key]
        if not self.functions[scope, 0]:
            raise NotLive(scope)
        for function in self.functions[scope, 0]:
            _set_defaults(function, source, scope, vars(self.module))

    def _compiled(self, source: str) -> CodeType:
        return compile(source, self.file, "exec")

    def _set_constants(self, source: str) -> None:
        """Set the constants that differ, and those that follow from them."""
        changed: set[str] = set()
        for old, new in zip(ast.parse(self.text).body, ast.parse(source).body, strict=True):
            if not isinstance(new, ast.Assign | ast.AnnAssign | ast.AugAssign):
                continue
            read = {node.id for node in ast.walk(new) if isinstance(node, ast.Name)}
            if ast.dump(old) != ast.dump(new) or read & changed:
                changed |= {
                    node.id for node in ast.walk(new) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                }
                exec(compile(ast.Module([new], []), self.file, "exec"), vars(self.module))


def _by_key(code: CodeType) -> Iterator[tuple[Key, CodeType]]:
    seen: dict[str, int] = defaultdict(int)
    for each in _all(code):
        yield (each.co_qualname, seen[each.co_qualname]), each
        seen[each.co_qualname] += 1


def _all(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _all(constant)


def _set_defaults(function: FunctionType, source: str, scope: str, names: dict[str, object]) -> None:
    """Give the function the defaults that its definition in `source` has."""
    if not function.__defaults__ and not function.__kwdefaults__:
        return
    body: list[ast.stmt] = ast.parse(source).body
    for name in scope.split("."):
        found = next(each for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef) and each.name == name)
        body = found.body
    assert isinstance(found, ast.FunctionDef)
    found.decorator_list = []
    scratch = dict(names)
    exec(compile(ast.Module([found], []), function.__code__.co_filename, "exec"), scratch)
    fresh = scratch[found.name]
    assert isinstance(fresh, FunctionType)
    function.__defaults__, function.__kwdefaults__ = fresh.__defaults__, fresh.__kwdefaults__
