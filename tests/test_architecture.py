"""The import arrows of the packages, read from the source: nothing is imported to check it.

    billing_portal.portal   billing_portal.support
                └──────┬──────┘
      the modules of billing_portal itself (checks, …)
              billing_portal.billing
                       │
              billing_portal.ledger
                       │
                     usage
                       │
                    accounts

A package imports only what stands below it. The sandbox stands alone, `billing_portal.local` sees all and is seen by
the settings only, and nobody imports what wires the whole: settings, urls, celery, wsgi.
"""

import ast
import graphlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = {"accounts", "usage", "billing_portal", "tests"}
ROOT_FILES = {"manage.py"}
NOT_OURS = {"node_modules"}
VAGUE_NAMES = {"services.py", "selectors.py", "utils.py", "helpers.py"}

WIRING = {f"billing_portal.{name}" for name in ("settings", "urls", "celery", "wsgi")}
STACK = ["accounts", "usage", "billing_portal.ledger", "billing_portal.billing", "billing_portal"]
PAGES = {"billing_portal.portal", "billing_portal.support"}
LOCAL, SANDBOX = "billing_portal.local", "billing_portal.sandbox"
MAY_IMPORT = {
    **{package: set(STACK[:height]) for height, package in enumerate(STACK)},
    **{package: set(STACK) for package in PAGES},
    LOCAL: {*STACK, *PAGES},
    SANDBOX: set(),
    "wiring": {*STACK, *PAGES, LOCAL},
}
OWN_MIGRATIONS = "billing_portal.djstripe_migrations"  # dj-stripe's, squashed; part of `billing_portal` itself
GATEWAY = "billing_portal.billing.gateway"
SERVERS = f"{LOCAL}.servers"
SERVERS_MAY_IMPORT = sys.stdlib_module_names | {"psycopg"}


@dataclass(frozen=True)
class Import:
    """One imported module, as `target` names it, and how it stands in the importer."""

    importer: str
    target: str
    line: int
    in_function: bool
    in_ready: bool
    for_types: bool

    @property
    def at_start(self) -> bool:
        """Whether the import runs while its module loads, so that it can close a circle."""
        return not (self.in_function or self.in_ready or self.for_types)


class Reader(ast.NodeVisitor):
    """Collects the imports of one module."""

    def __init__(self, module: str, *, is_package: bool, modules: dict[str, Path]) -> None:
        self.module = module
        self.package = module if is_package else module.rpartition(".")[0]
        self.modules = modules
        self.found: list[Import] = []
        self.inside: list[ast.AST] = []

    def generic_visit(self, node: ast.AST) -> None:
        self.inside.append(node)
        super().generic_visit(node)
        self.inside.pop()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            self.generic_visit(node)
            return
        self.inside.append(node)
        for child in node.body:
            self.visit(child)
        self.inside.pop()
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self.package.split(".")
            above = above[: len(above) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            self.add(submodule if submodule in self.modules else base, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        """Take `import_module("a.b")` for the import it is, except to wire an app by dotted path when it is ready."""
        name = node.args[0] if node.args and ast.unparse(node.func).endswith("import_module") else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            self.add(name.value, node.lineno)
            self.found = [each for each in self.found if not (each.in_ready and each.line == node.lineno)]
        self.generic_visit(node)

    def add(self, target: str, line: int) -> None:
        functions = [
            index for index, node in enumerate(self.inside) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        ready = bool(functions) and self.is_ready_of_an_app(functions[0])
        for_types = any(isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) for node in self.inside)
        self.found.append(Import(self.module, target, line, bool(functions) and not ready, ready, for_types))

    def is_ready_of_an_app(self, index: int) -> bool:
        function, holder = self.inside[index], self.inside[index - 1]
        return (
            getattr(function, "name", "") == "ready"
            and isinstance(holder, ast.ClassDef)
            and any(ast.unparse(base).endswith("Config") for base in holder.bases)
        )


def package_of(module: str) -> str:
    """Return the package whose rules hold for a module."""
    if module in WIRING:
        return "wiring"
    first, _, rest = module.partition(".")
    below = f"{first}.{rest.partition('.')[0]}"
    return below if below in MAY_IMPORT else first


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def modules_of(root: Path) -> dict[str, Path]:
    """Return all modules by dotted name."""
    found = {}
    for path in sorted(path for top in TOP_LEVEL for path in (root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def violations(root: Path) -> list[str]:
    """Return what breaks a rule in the tree below `root`, each as place and reason."""
    modules = modules_of(root)
    imports: list[Import] = []
    for module, path in modules.items():
        reader = Reader(module, is_package=path.name == "__init__.py", modules=modules)
        reader.visit(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
        imports += reader.found
    product = [each for each in imports if not is_in(each.importer, "tests")]

    broken = [*misplaced_files(root, modules)]
    for each in product:
        place = f"{modules[each.importer].relative_to(root)}:{each.line}"
        broken += [f"{place}: {reason}" for reason in broken_rules(each)]
    broken += [f"circle: {circle}" for circle in circles(product)]
    broken += [f"{SERVERS} needs {name}, but must start without Django" for name in needs_of_servers(imports)]
    return broken


def misplaced_files(root: Path, modules: dict[str, Path]) -> Iterator[str]:
    for path in sorted(root.iterdir()):
        if path.suffix == ".py" and path.name not in ROOT_FILES:
            yield f"{path.name}: code belongs into a package"
        hidden = path.name.startswith(".") or path.name in TOP_LEVEL | NOT_OURS
        if path.is_dir() and not hidden and any(path.rglob("*.py")):
            yield f"{path.name}/: a top-level package beyond {', '.join(sorted(TOP_LEVEL))}"
    known = {*MAY_IMPORT, OWN_MIGRATIONS}
    for module, path in modules.items():
        if path.name in VAGUE_NAMES:
            yield f"{path.relative_to(root)}: says nothing about what is in it"
        below = ".".join(module.split(".")[:2])
        is_directory = path.name == "__init__.py" or module.count(".") > 1
        if is_in(module, "billing_portal") and module != "billing_portal" and is_directory and below not in known:
            yield f"{path.relative_to(root)}: a package with no place in the arrows"


def broken_rules(each: Import) -> Iterator[str]:
    importer, target = package_of(each.importer), package_of(each.target)
    ours = each.target.partition(".")[0] in TOP_LEVEL
    if ours and is_in(each.target, "tests"):
        yield "the product imports its tests"
    elif each.target in WIRING:
        yield f"{each.target} wires the whole, so nothing imports it"
    elif ours and importer != target and target not in MAY_IMPORT[importer]:
        yield f"{each.importer} imports {each.target}: {importer} may not know {target}"
    if is_in(each.target, "stripe") and not is_in(each.importer, GATEWAY):
        yield f"only {GATEWAY} imports stripe"
    mirrors = is_in(each.importer, "billing_portal.billing") or is_in(each.importer, OWN_MIGRATIONS)
    if is_in(each.target, "djstripe") and not mirrors:
        yield "only billing_portal.billing imports djstripe"
    if importer == SANDBOX and is_in(each.target, "django"):
        yield "the sandbox runs without Django"
    if each.in_function and not each.for_types:
        yield f"{each.target} is imported inside a function"


def circles(imports: list[Import]) -> Iterator[str]:
    graph: dict[str, set[str]] = {}
    for each in imports:
        if each.at_start and each.target != each.importer and each.target.partition(".")[0] in TOP_LEVEL:
            graph.setdefault(each.importer, set()).add(each.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield " → ".join(reversed(error.args[1]))


def needs_of_servers(imports: list[Import]) -> list[str]:
    """Return what the embedded servers import beyond the standard library, through whatever they import."""
    needs: dict[str, set[str]] = {}
    for each in imports:
        needs.setdefault(each.importer, set()).add(each.target)
    seen: set[str] = set()
    todo = [SERVERS]
    while todo:
        module = todo.pop()
        if module not in seen and module.partition(".")[0] in TOP_LEVEL:
            todo += [*needs.get(module, ()), module.rpartition(".")[0]]
        seen.add(module)
    roots = {module.partition(".")[0] for module in seen} - {""}
    return sorted(roots - SERVERS_MAY_IMPORT - TOP_LEVEL)


def test_the_arrows_hold():
    found = violations(ROOT)
    assert not found, "\n".join(found)


# The check is checked: each rule is broken once, in a tree of its own.


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write a small tree that keeps all rules, and then these files."""
    sound = {
        "manage.py": "import os",
        "accounts/models.py": "import django.db",
        "usage/models.py": "from accounts.models import User\nfrom accounts import models as people",
        "usage/apps.py": (
            "from django.apps import AppConfig\n"
            "class UsageConfig(AppConfig):\n    def ready(self):\n        from usage import receivers\n"
            "        import_module('billing_portal.celery')\n"
        ),
        "usage/receivers.py": "from . import models",
        "billing_portal/__init__.py": "",
        "billing_portal/settings.py": "from billing_portal.local import servers",
        "billing_portal/urls.py": "from billing_portal.portal import views",
        "billing_portal/checks.py": "from billing_portal.billing import gateway",
        "billing_portal/ledger/models.py": "import usage.models",
        "billing_portal/billing/gateway.py": "import stripe",
        "billing_portal/billing/mirror.py": "from djstripe import models\nfrom billing_portal.ledger import models",
        "billing_portal/djstripe_migrations/m.py": "import djstripe.fields",
        "billing_portal/portal/views.py": "from billing_portal import checks\nimport billing_portal.billing.gateway",
        "billing_portal/support/views.py": "from usage.models import Call",
        "billing_portal/local/servers.py": "import os\nimport psycopg\nfrom billing_portal.local import daemons",
        "billing_portal/local/daemons.py": "import signal",
        "billing_portal/local/demo.py": "import django\nfrom billing_portal.portal import views",
        "billing_portal/sandbox/app.py": "import starlette\nfrom billing_portal.sandbox import money",
        "billing_portal/sandbox/money.py": "",
        "tests/test_all.py": "import stripe\nfrom billing_portal.sandbox import app\ndef test():\n    import usage",
    }
    for name, text in {**sound, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_sound_tree_passes(tmp_path):
    assert violations(plant(tmp_path, {})) == []


BROKEN = {
    "upward from accounts": ({"accounts/a.py": "import usage.models"}, "accounts may not know usage"),
    "upward from usage": (
        {"usage/a.py": "from billing_portal.ledger.models import Grant"},
        "usage may not know billing_portal.ledger",
    ),
    "upward, written from the parent": (
        {"usage/a.py": "from billing_portal import ledger", "billing_portal/ledger/__init__.py": ""},
        "usage may not know billing_portal.ledger",
    ),
    "upward, relative": (
        {"billing_portal/ledger/a.py": "from ..billing.gateway import pay"},
        "billing_portal.ledger may not know billing_portal.billing",
    ),
    "upward, for types only": (
        {"accounts/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import usage.models"},
        "accounts may not know usage",
    ),
    "upward, in a command": (
        {"usage/management/commands/rate.py": "from billing_portal.billing import gateway"},
        "usage may not know billing_portal.billing",
    ),
    "upward, when ready": (
        {"usage/apps.py": "class A(AppConfig):\n    def ready(self):\n        import billing_portal.portal.views"},
        "usage may not know billing_portal.portal",
    ),
    "pages of customers in those of staff": (
        {"billing_portal/support/a.py": "from billing_portal.portal import views"},
        "billing_portal.support may not know billing_portal.portal",
    ),
    "pages of staff in those of customers": (
        {"billing_portal/portal/a.py": "from billing_portal.support import views"},
        "billing_portal.portal may not know billing_portal.support",
    ),
    "a check in the ledger": (
        {"billing_portal/ledger/a.py": "from billing_portal import checks"},
        "billing_portal.ledger may not know billing_portal",
    ),
    "the sandbox imported": (
        {"billing_portal/local/a.py": "from billing_portal.sandbox import app"},
        "billing_portal.local may not know billing_portal.sandbox",
    ),
    "the sandbox imported by wiring": (
        {"billing_portal/urls.py": "import billing_portal.sandbox.app"},
        "wiring may not know billing_portal.sandbox",
    ),
    "the sandbox importing": (
        {"billing_portal/sandbox/a.py": "from usage import models"},
        "billing_portal.sandbox may not know usage",
    ),
    "the sandbox on Django": ({"billing_portal/sandbox/a.py": "import django.db"}, "runs without Django"),
    "the servers imported": (
        {"billing_portal/billing/a.py": "from billing_portal.local import servers"},
        "billing_portal.billing may not know billing_portal.local",
    ),
    "settings imported": ({"accounts/a.py": "from billing_portal import settings"}, "so nothing imports it"),
    "celery imported": ({"usage/tasks.py": "from billing_portal.celery import app"}, "so nothing imports it"),
    "celery imported by its package": (
        {"billing_portal/__init__.py": "from .celery import app", "billing_portal/celery.py": ""},
        "so nothing imports it",
    ),
    "urls imported by settings": (
        {"billing_portal/settings.py": "import billing_portal.urls"},
        "so nothing imports it",
    ),
    "tests imported": ({"usage/a.py": "from tests import test_all"}, "the product imports its tests"),
    "stripe": ({"billing_portal/billing/a.py": "import stripe"}, "gateway imports stripe"),
    "a part of stripe": ({"billing_portal/portal/a.py": "from stripe.error import E"}, "gateway imports stripe"),
    "djstripe": ({"billing_portal/portal/a.py": "from djstripe import models"}, "billing imports djstripe"),
    "inside a function": ({"usage/a.py": "def f():\n    import json"}, "json is imported inside a function"),
    "inside a coroutine": ({"usage/a.py": "async def f():\n    import json"}, "json is imported inside a function"),
    "inside a function, by name": (
        {"usage/a.py": "import importlib\ndef f():\n    importlib.import_module('json')"},
        "json is imported inside a function",
    ),
    "ready of something else": (
        {"usage/a.py": "class A:\n    def ready(self):\n        import json"},
        "json is imported inside a function",
    ),
    "a circle": (
        {
            "usage/a.py": "from usage import b",
            "usage/b.py": "from usage.c import x",
            "usage/c.py": "from . import a",
        },
        "circle: usage.",
    ),
    "a circle through a package": (
        {"usage/p/__init__.py": "from usage.p.q import x", "usage/p/q.py": "from usage.p import y"},
        "circle: usage.p",
    ),
    "a vague name": ({"usage/prices/utils.py": ""}, "says nothing about what is in it"),
    "another top-level package": ({"tools/a.py": ""}, "tools/: a top-level package beyond"),
    "code beside the packages": ({"script.py": ""}, "script.py: code belongs into a package"),
    "a package without a place": ({"billing_portal/extra/a.py": ""}, "a package with no place in the arrows"),
    "the servers on Django": (
        {"billing_portal/local/daemons.py": "from django.conf import settings"},
        "servers needs django",
    ),
    "the servers on Django, by the package around them": (
        {"billing_portal/__init__.py": "import celery"},
        "servers needs celery",
    ),
}


@pytest.mark.parametrize(("files", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_is_named(tmp_path, files, reason):
    found = violations(plant(tmp_path, files))
    assert [line for line in found if reason in line], found
    assert len(found) == 1


def test_the_place_is_named(tmp_path):
    [found] = violations(plant(tmp_path, {"accounts/a.py": "import os\nimport usage.models"}))
    assert found == "accounts/a.py:2: accounts.a imports usage.models: accounts may not know usage"
