"""`manage.py bench <subject> [--json]`: measure on servers of its own; exit 1 where a goal is missed.

Like the demo it needs no Django itself: it starts PostgreSQL and Valkey, fsync on, and measures in a process that finds
them in its environment. `--world DIRECTORY` keeps them there, with their data, for the next run.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from billing_portal.local import bench, servers
from billing_portal.local.processes import Processes


def main() -> None:
    options, of_subject = _parser().parse_known_args()
    with _world(options.world) as directory:
        sys.exit(_measure(directory, options.subject, of_subject))


def _parser() -> argparse.ArgumentParser:
    modules = Path(bench.__path__[0]).glob("*.py")
    subjects = sorted(module.stem for module in modules if "\ndef measure(" in module.read_text())
    parser = argparse.ArgumentParser(
        prog="manage.py bench",
        description=__doc__.splitlines()[0],
        epilog="What follows the subject is the subject's own: --json, and what `bench <subject> -- --help` lists.",
    )
    parser.add_argument(
        "--world", type=Path, metavar="DIRECTORY", help="keep the servers' data there, and go on with it"
    )
    parser.add_argument("subject", choices=subjects)
    return parser


def _measure(directory: Path, subject: str, of_subject: list[str]) -> int:
    embedded = servers.ensure(directory)
    environment = {
        "DJANGO_SETTINGS_MODULE": "billing_portal.settings",
        "DATABASE_URL": embedded.database_url,
        "BROKER_URL": embedded.broker_url,
        "LOCAL_DIR": str(directory),
        "LOG_LEVEL": "ERROR",
    }
    processes = Processes(logs=directory / "logs", environment=environment)
    code = processes.run("manage.py", "migrate", "--verbosity", "0")
    return code or processes.run("-m", bench.__name__, subject, *(word for word in of_subject if word != "--"))


@contextmanager
def _world(kept: Path | None) -> Iterator[Path]:
    """Yield a directory for the servers, and stop them; without `kept` it is a fresh one, thrown away afterwards."""
    if kept is not None:
        try:
            yield kept.absolute()
        finally:
            servers.stop(kept)
        return
    home = servers.default_directory() / "benches"
    home.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=home))
    directory.chmod(0o755)  # PostgreSQL, run as nobody, must find its way through
    try:
        yield directory
    finally:
        servers.remove(directory)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
