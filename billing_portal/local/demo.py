"""`manage.py demo`: the whole product on this machine, with a seeded company; or the story once, with `--exit`.

Starts PostgreSQL, Valkey, the Stripe sandbox, web, worker and beat, in this order, and stops them at Ctrl-C.
It needs no Django itself: it decides which servers the processes it starts find in their environment.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType

from billing_portal.local import servers
from billing_portal.local.processes import CannotStart, MemoryWatch, Processes, free_port, is_free

SEEDED = "seeded"  # the file that says that a story was told to its end
_WEB_PORT = 8000
_SANDBOX_PORT = 12111


def main() -> None:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = _tell_story(options) if options.exit else _serve(options)
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="manage.py demo", description=__doc__.splitlines()[0])
    parser.add_argument("--exit", action="store_true", help="run the story once, print one table, and stop")
    parser.add_argument("--port", type=int, default=_WEB_PORT, help="of the portal (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=200_000, help="how many (default: %(default)s)")
    parser.add_argument("--organizations", type=int, default=30, help="how many (default: %(default)s)")
    parser.add_argument("--months", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default: %(default)s)")
    parser.add_argument(
        "--arrivals",
        type=Path,
        default=os.environ.get("ARRIVALS_FILE"),
        metavar="FILE",
        help="real arrival counts (interval_start, calls) instead of the sample's rhythm",
    )
    parser.add_argument("--month", metavar="YYYY-MM", help="the month of the arrivals file to take")
    parser.add_argument("--kill-worker", action="store_true", help="kill the worker in the middle, then start it again")
    return parser


def _serve(options: argparse.Namespace) -> int:
    """Seed once, then run until interrupted."""
    directory = servers.default_directory() / "demo"
    for port, what in ((options.port, "--port"), (_SANDBOX_PORT, "the Stripe sandbox")):
        if not is_free(port):
            sys.exit(f"Port {port} ({what}) is busy.\nStop what listens there, perhaps another demo: make demo-stop.")
    processes = _processes(directory, web_port=options.port, sandbox_port=_SANDBOX_PORT)
    # By name, because browsers offer no passkeys to a bare address.
    processes.environment["BASE_URL"] = f"http://localhost:{options.port}"
    try:
        _start(processes, options, directory, sandbox_port=_SANDBOX_PORT, state=directory / "sandbox.state")
        if processes.run("manage.py", "story", "--once", *_story_arguments(options)):
            return 1
        processes.wait_for("web", f"{processes.environment['BASE_URL']}/")
        while True:
            time.sleep(1)
            for name in processes.children:
                processes.assert_running(name)
    finally:
        processes.stop()
        servers.stop(directory)


def _tell_story(options: argparse.Namespace) -> int:
    """Run the story in a world of its own that is gone afterwards; 0 only if it ends paid and without difference."""
    directory = Path(tempfile.mkdtemp(prefix="story-", dir=_story_home()))
    directory.chmod(0o755)  # PostgreSQL, run as nobody, must find its way through
    sandbox_port = free_port()
    processes = _processes(directory, web_port=free_port(), sandbox_port=sandbox_port)
    watch = MemoryWatch(processes)
    try:
        _start(processes, options, directory, sandbox_port=sandbox_port, state=None)
        watch.start()
        if options.kill_worker:
            _kill_worker_when_told(processes)
        code = processes.run("manage.py", "story", *_story_arguments(options))
    finally:
        watch.done.set()
        processes.stop()
        servers.remove(directory)
        shutil.rmtree(directory, ignore_errors=True)
    _say(f"Peak memory of sandbox, web, worker and beat together: {watch.peak_bytes / 1e6:,.0f} MB.")
    return code


def _processes(directory: Path, *, web_port: int, sandbox_port: int) -> Processes:
    """Start the servers, and return the environment in which everything else runs."""
    embedded = servers.ensure(directory)
    sandbox = f"http://127.0.0.1:{sandbox_port}"
    environment = {
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
        "LOCAL_DIR": str(directory),
        "DATABASE_URL": os.environ.get("DATABASE_URL") or embedded.database_url,
        "BROKER_URL": os.environ.get("BROKER_URL") or embedded.broker_url,
        "BASE_URL": f"http://127.0.0.1:{web_port}",
        "STRIPE_API_BASE": sandbox,
        "STRIPE_SECRET_KEY": "sk_test_sandbox",
        "STRIPE_PUBLISHABLE_KEY": "pk_test_sandbox",
        "STRIPE_WEBHOOK_SECRETS": "whsec_sandbox",
        "PYTHONUNBUFFERED": "1",
    }
    return Processes(logs=directory / "logs", environment=environment)


def _start(
    processes: Processes, options: argparse.Namespace, directory: Path, *, sandbox_port: int, state: Path | None
) -> None:
    """Start the sandbox, migrate, then start web, worker and beat.

    Where a story was told to its end, nothing waits for anything: Django boots for seconds in each of the processes,
    and the story's own process migrates beside them.
    """
    base_url = processes.environment["BASE_URL"]
    sandbox = [
        "manage.py", "sandbox", "--port", str(sandbox_port),
        "--webhook", f"{base_url}/stripe/webhooks/", "--webhook-secret", "whsec_sandbox",
    ]  # fmt: skip
    is_new = state is None or not state.exists()
    if state is not None:
        sandbox += ["--state", str(state)]
    if is_new:
        sandbox += ["--clock", _first_month(options).isoformat()]
    processes.start("sandbox", *sandbox)
    is_seeded = (directory / SEEDED).exists()
    if not is_seeded and processes.run("manage.py", "migrate", "--verbosity", "0"):
        raise CannotStart("The database could not be migrated.")
    processes.wait_for("sandbox", processes.environment["STRIPE_API_BASE"] + "/_sandbox/clock")
    port = base_url.rpartition(":")[2]
    processes.start(
        "web", "-m", "gunicorn", "billing_portal.wsgi", "--bind", f"127.0.0.1:{port}",
        "--preload", "--workers", "2", "--threads", "4", "--timeout", "60",
    )  # fmt: skip
    processes.start(
        "worker", "-m", "celery", "-A", "billing_portal", "worker", "--concurrency", "2", "--loglevel", "INFO"
    )
    beat = str(directory / "beat.pid")
    processes.start("beat", "-m", "celery", "-A", "billing_portal", "beat", "--loglevel", "INFO", "--pidfile", beat)
    if not is_seeded:
        processes.wait_for("web", f"{base_url}/")


def _story_arguments(options: argparse.Namespace) -> list[str]:
    arguments = [
        "--first-month", f"{_first_month(options):%Y-%m}",
        "--months", str(_months(options)),
        "--calls", str(options.calls),
        "--organizations", str(options.organizations),
        "--seed", str(options.seed),
    ]  # fmt: skip
    if options.arrivals:
        if not options.month:
            sys.exit("Say which month of the arrivals file to take: --month 2003-04.")
        arguments += ["--arrivals", str(options.arrivals.resolve()), "--arrivals-month", options.month]
    return arguments


def _first_month(options: argparse.Namespace) -> datetime:
    """Return when the story begins: in the first of the last full months that it covers.

    Just after the instant at which subscriptions renew, so that no invoice is made for the hours before.
    """
    today = datetime.now(UTC).date()
    months = today.year * 12 + today.month - 1 - _months(options)
    first = date(months // 12, months % 12 + 1, 1)
    return datetime(first.year, first.month, 1, 12, 5, tzinfo=UTC)


def _months(options: argparse.Namespace) -> int:
    return 1 if options.arrivals else int(options.months)


def _kill_worker_when_told(processes: Processes) -> None:
    """Let the story ask, with SIGUSR1, for the worker's death; it is started again at once."""

    def die_and_rise(signum: int, frame: FrameType | None) -> None:
        processes.kill("worker")
        processes.restart("worker")
        _say("The worker was killed with SIGKILL and started again.")

    signal.signal(signal.SIGUSR1, die_and_rise)
    processes.environment["STORY_KILLS_WORKER"] = str(os.getpid())


def _story_home() -> Path:
    home = servers.default_directory() / "stories"
    home.mkdir(parents=True, exist_ok=True)
    return home


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
