"""The pytest session that is forked for each mutant: a plugin that finds in a file what `__main__` wants of it."""

import contextlib
import gc
import hashlib
import json
import os
import resource
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from coverage import Coverage
from django.db import connections
from pytest_django.plugin import blocking_manager_key

from tests.mutation.catalogue import Mutant, SourceFile
from tests.mutation.grafting import Host, NotLive

# A test that takes longer tells of the whole, and another one of the part.
_LONGEST_TEST_SECONDS = 3
# What does not end by itself: by the clock where it waits, by the processor where it turns in a circle.
_WAITS_SECONDS = 30
_TURNS_SECONDS = 4
_NOT_LIVE = 3
_MEMORY_BYTES = 6 * 2**30


def job() -> dict[str, Any]:
    """Return what this session is to do."""
    found: dict[str, Any] = json.loads(Path(os.environ["MUTATION_JOB"]).read_text())
    return found


def pytest_configure() -> None:
    import hypothesis  # not earlier: its own plugin is to come first

    connections["default"].settings_dict["TEST"]["NAME"] = job()["database"]
    # A failure is all that is wanted: no smaller example, and none kept for the next run.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    once = {"derandomize": True, "report_multiple_bugs": False}
    hypothesis.settings.register_profile("mutants", database=None, deadline=None, phases=phases, **once)
    hypothesis.settings.load_profile("mutants")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Record which test reaches which line, or try mutants, instead of running the tests."""
    if session.testsfailed:
        raise session.Interrupted("tests could not be collected")
    todo = job()
    if todo["do"] == "record":
        Path(todo["map"]).write_text(json.dumps(record(session)))
    else:
        try_mutants(session, todo)
    return True


def record(session: pytest.Session) -> dict[str, Any]:
    """Run every test once; return how long each took, and by file and line which tests reach it.

    A test that fails as things are can notice nothing, and is left out.
    """
    coverage = Coverage(data_file=None, config_file=False, include=["billing_portal/ledger/*"])
    seconds: dict[str, float] = {}
    broken: list[str] = []
    fails(session, session.items[0])  # the first makes the database, and all that is made once
    for item in session.items:
        started = time.perf_counter()
        coverage.start()
        coverage.switch_context(item.nodeid)
        failed = fails(session, item) and fails(session, item)
        coverage.stop()
        if failed:
            broken.append(item.nodeid)
            continue
        seconds[item.nodeid] = time.perf_counter() - started
    data = coverage.get_data()
    lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
    reached = {
        os.path.relpath(file): {line: [test for test in tests if test] for line, tests in by_line.items()}
        for file, by_line in lines.items()
    }
    return {"seconds": seconds, "reached": reached, "broken": broken}


def fails(session: pytest.Session, item: pytest.Item) -> bool:
    """Run one test, keeping what belongs to the whole session."""
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=session))  # type: ignore[arg-type]


def try_mutants(session: pytest.Session, todo: dict[str, Any]) -> None:
    """Try this session's share of the mutants, and write a line for each into the file of results."""
    known = json.loads(Path(todo["map"]).read_text())
    items = {item.nodeid: item for item in session.items}
    fails(session, session.items[0])  # as in `record`
    files = [(SourceFile(Path(path), module), Host(module)) for path, module in todo["files"]]
    gc.freeze()  # so that a child copies less; only now, as a host finds its functions among what is not frozen
    tried = {*todo["known"]}
    wanted = [(mutant, host) for source, host in files for mutant in source.mutants if mutant.name not in tried]
    # By their digests, so that what a run has tried when it is stopped is a fair sample of the whole.
    wanted.sort(key=lambda each: hashlib.sha256(each[0].name.encode()).digest())
    killers: dict[str, Counter[str]] = defaultdict(Counter)
    with Path(todo["results"]).open("a") as results:
        for mutant, host in wanted[todo["share"] :: todo["shares"]]:
            tests = _tests_for(mutant, host, known, killers[mutant.module])
            verdict, seconds = _try(session, host, mutant, [items[test] for test in tests if test in items], known)
            killers[mutant.module][verdict] += 1
            row = {"mutant": mutant.name, "line": mutant.lines.start, "by": verdict, "of": len(tests), "s": seconds}
            results.write(json.dumps({**row, "state": todo["state"]}) + "\n")
            results.flush()


def _tests_for(mutant: Mutant, host: Host, known: dict[str, Any], killers: Counter[str]) -> list[str]:
    """Return the tests that reach the mutant: the quick first, and those that found others of its file."""
    by_line: dict[str, list[str]] = known["reached"].get(os.path.relpath(host.file), {})
    lines = [str(line) for line in mutant.lines] if mutant.scope else list(by_line)
    seconds: dict[str, float] = known["seconds"]
    found = {test for line in lines for test in by_line.get(line, []) if seconds[test] <= _LONGEST_TEST_SECONDS}
    return sorted(found, key=lambda test: (seconds[test] / (1 + 2 * killers[test]), test))


def _try(
    session: pytest.Session, host: Host, mutant: Mutant, items: list[pytest.Item], known: dict[str, Any]
) -> tuple[str, float]:
    """Return what noticed the mutant, a test or "time", and the seconds that took; nothing if none did."""
    with session.config.stash[blocking_manager_key].unblock():
        connections["default"].ensure_connection()  # a database that is gone would make every mutant look noticed
    expected = sum(known["seconds"][item.nodeid] for item in items)
    turns = int(_TURNS_SECONDS + 3 * expected)
    started = time.monotonic()
    connections.close_all()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "w") as answer, contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (turns, turns))
            answer.write(_noticed_by(session, host, mutant, items))
        os._exit(0)
    os.close(writing)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(int(_WAITS_SECONDS + 10 * expected))
    with os.fdopen(reading) as answer:
        noticed = answer.read()
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    if os.waitstatus_to_exitcode(status) == _NOT_LIVE:
        raise NotLive(mutant.name)
    if status:
        noticed = "time"
    return noticed, round(time.monotonic() - started, 2)


def _noticed_by(session: pytest.Session, host: Host, mutant: Mutant, items: list[pytest.Item]) -> str:
    """In the child: become the mutant, and return the first test that fails."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(0)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        host.graft(mutant.source, mutant.scope)
    except NotLive:
        os._exit(_NOT_LIVE)
    except Exception as error:
        return f"loading: {type(error).__name__}"
    return next((item.nodeid for item in items if fails(session, item)), "")
