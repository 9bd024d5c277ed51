"""Try every mutant of the ledger, or of the files named; fail below 90 %, or where one lives on without a reason."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

from billing_portal.local import servers
from tests.mutation.catalogue import SourceFile

ROOT = Path("billing_portal/ledger")
LEAST_PERCENT = 90
REASONS = Path(__file__).with_name("survivors.toml")
TESTS = ["tests/ledger"]
# They prove the whole for seconds or minutes each, with processes and threads of their own.
NOT_TESTS = ["*machine*", "*races*", "*killed*"]
# Without behaviour that a test could hold: texts, and what runs once when Django starts.
NOT_CODE = {"migrations", "management", "apps.py", "api_urls.py", "signals.py", "description.py", "__init__.py"}

Row = dict[str, Any]


def main() -> int:
    """Record which tests reach what, unless that is known; try the mutants; tell."""
    given = _arguments()
    there = servers.default_directory().absolute() / "mutation"
    there.mkdir(parents=True, exist_ok=True)
    files = [path for path in (given.files or _files()) if not NOT_CODE & {*path.parts}]
    state = _digest()
    map_file, remembered = there / f"map-{state}.json", there / "results.jsonl"
    results = _read(remembered)
    if not map_file.exists():
        print("Recording which tests reach which lines", flush=True)
        _run([{"do": "record", "map": str(map_file)}], there)
    for name in json.loads(map_file.read_text())["broken"]:
        print(f"Left out, as it fails without any mutant: {name}")
    known = [name for name, row in results.items() if (row["by"] if given.survivors else row["state"] == state)]
    share = {"do": "try", "map": str(map_file), "files": [[str(path), _module(path)] for path in files], "known": known}
    share |= {"results": str(remembered), "state": state, "shares": given.workers}
    _run([{**share, "share": number} for number in range(given.workers)], there)
    return _tell(files, _read(remembered))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="files of the ledger; all without")
    parser.add_argument("--survivors", action="store_true", help="leave out what any earlier run killed")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 4))
    return parser.parse_args()


def _read(remembered: Path) -> dict[str, Row]:
    """Return the last word on each mutant: a line was written when it was tried, so a run that is stopped goes on."""
    lines = remembered.read_text().splitlines() if remembered.exists() else []
    return {row["mutant"]: row for row in map(json.loads, lines)}


def _files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def _digest() -> str:
    """Return what changes with the ledger or its tests, and so with what reaches what."""
    read = sorted([*_files(), *Path("tests/ledger").glob("*.py"), *Path("tests").glob("*.py")])
    return hashlib.sha256(b"".join(bytes(path) + path.read_bytes() for path in read)).hexdigest()[:12]


def _run(jobs: list[Row], there: Path) -> None:
    """Run the jobs beside one another, each in a session with a database and a broker of its own."""
    running = []
    for number, job in enumerate(jobs):
        file = there / f"job-{number}.json"
        file.write_text(json.dumps({**job, "database": f"test_mutation_{number}"}))
        command = [sys.executable, "-m", "pytest", "-p", "tests.mutation.session", "-q", "--capture=no", "--timeout=0"]
        # Nobody reads what failed: to print it as usual takes ten times what the test takes.
        command += ["-n", "0", "-p", "no:cacheprovider", "--tb=native", "-m", "not long", *TESTS]
        command += [f"--ignore-glob={pattern}" for pattern in NOT_TESTS]
        environment = {**os.environ, "MUTATION_JOB": str(file), "PYTEST_XDIST_WORKER": f"gw{10 + number}"}
        output = (there / f"output-{number}.txt").open("w")
        running.append(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
    for number, each in enumerate(running):
        if each.wait() not in {0, 5}:  # 5: pytest saw no test, which is as it should be
            sys.exit(f"The session failed; see {there / f'output-{number}.txt'}")


def _tell(files: list[Path], results: dict[str, Row]) -> int:
    reasons = {name: each["why"] for each in tomllib.loads(REASONS.read_text())["because"] for name in each["mutants"]}
    unexplained: list[str] = []
    needed: set[str] = set()
    sums: dict[str, int] = defaultdict(int)
    print(f"{'':32}{'mutants':>8}{'killed':>8}{'alive':>7}  %")
    for path in files:
        names = [mutant.name for mutant in SourceFile(path, _module(path)).mutants]
        rows = {name: results[name] for name in names if name in results}
        alive = [name.removeprefix("billing_portal.ledger.") for name, row in rows.items() if not row["by"]]
        needed |= {name for name in alive if name in reasons}
        unexplained += [name for name in alive if name not in reasons]
        sums["all"] += len(rows)
        sums["alive"] += len(alive)
        if rows:
            _line(str(path.relative_to(ROOT)), len(rows), len(alive))
    _line("together", sums["all"], sums["alive"])
    modules = {_module(path).removeprefix("billing_portal.ledger.") for path in files}
    for name in reasons:
        if name not in needed and name.partition(": ")[0].rpartition(".")[0] in modules:
            print(f"No longer alive, so it needs no reason: {name}")
    for name in unexplained:
        print(f"Alive without a reason: {name}")
    enough = 100 * (sums["all"] - sums["alive"]) >= LEAST_PERCENT * sums["all"]
    return 0 if enough and not unexplained else 1


def _line(name: str, mutants: int, alive: int) -> None:
    print(f"{name:32}{mutants:8}{mutants - alive:8}{alive:7}{100 * (mutants - alive) / mutants:6.1f}")


if __name__ == "__main__":
    sys.exit(main())
