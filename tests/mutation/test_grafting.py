"""A mutant that is made but not put in place would look like one that no test can tell."""

import sys
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="only `make mutants` installs it")

from tests.mutation.catalogue import SourceFile
from tests.mutation.grafting import Host, NotLive

SOURCE = '''
"""A module with one of everything."""

from functools import wraps

LIMIT = 3
LAWS = {"first": "SELECT id FROM t WHERE a <= b AND c IS NULL"}
ALL = " UNION ALL ".join(LAWS.values())


def twice(command):
    @wraps(command)
    def repeated(*given, **named):
        return command(*given, **named) + command(*given, **named)

    return repeated


@twice
def plus(one: int, other: int = 1) -> int:
    """Add."""
    return one + other


def is_within(number):
    return number < LIMIT


class Pair:
    kept = 5

    @property
    def total(self):
        return self.kept * 2


def queries():
    return [ALL, [each for each in range(LIMIT) if each > 0]]


def pairs():
    return list(zip("ab", "cd", strict=True))
'''


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The module as something else has imported it, with its mutants."""
    (tmp_path / "of_everything.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    import_module("of_everything")
    yield Host("of_everything")
    del sys.modules["of_everything"]


def mutants_of(host):
    return {mutant.name.partition(".")[2]: mutant for mutant in SourceFile(Path(host.file), "of_everything").mutants}


def become(host, scope, change):
    """Put the one mutant of `scope` in place whose source holds `change`."""
    [mutant] = [each for each in mutants_of(host).values() if each.scope == scope and change in each.source]
    host.graft(mutant.source, mutant.scope)


def test_a_decorated_function_is_changed_for_those_who_hold_it_already(host):
    held = host.module.plus
    assert held(2) == 6
    become(host, "plus", "return one - other")
    assert held(2) == 2


def test_what_a_decorator_made_is_changed_too(host):
    held = host.module.plus
    become(host, "twice", "**named) - command")
    assert held(2) == 0


def test_a_default_is_changed(host):
    become(host, "plus", "other: int = 2")
    assert host.module.plus(2) == 8


def test_a_method_is_changed(host):
    become(host, "Pair.total", "kept * 3")
    assert host.module.Pair().total == 15


def test_a_constant_is_changed_where_it_is_read(host):
    become(host, "", "LIMIT = 4")
    assert host.module.is_within(3)


@pytest.mark.parametrize("where", ["a < b AND c IS NULL", "a <= b OR c IS NULL", "a <= b AND c IS NOT NULL"])
def test_sql_is_changed_with_all_that_is_made_of_it(where, host):
    become(host, "", where)
    assert host.module.queries()[0] == f"SELECT id FROM t WHERE {where}"


def test_every_mutant_of_a_function_names_the_lines_it_is_on(host):
    for name, mutant in mutants_of(host).items():
        lines = SOURCE.splitlines()
        assert mutant.lines, name
        assert any(lines[number - 1].strip() for number in mutant.lines), name


def test_a_default_is_noticed_where_its_function_runs(host):
    [default] = [each for name, each in mutants_of(host).items() if "other: int = " in name]
    assert SOURCE.splitlines()[default.lines[-1] - 1] == "    return one + other"


def test_nothing_is_made_of_annotations_docstrings_decorators_and_fields(host):
    names = " ".join(mutants_of(host))
    for left_alone in ("Add.", "@", ": [int", "kept = ["):
        assert left_alone not in names


def test_what_only_guards_stays_in_its_call(host):
    sources = [mutant.source for mutant in mutants_of(host).values() if "zip(" in mutant.source]
    assert any('zip("ab", None' in source for source in sources)
    assert all("strict=True" in source for source in sources)


def test_a_file_that_changed_since_it_was_loaded_is_refused(host):
    mutant = mutants_of(host)["plus: return one [+ ⇒ -] other"]
    host.functions.clear()
    with pytest.raises(NotLive):
        host.graft(mutant.source, mutant.scope)
