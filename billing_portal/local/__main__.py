"""`python -m billing_portal.local start|stop|status|env|remove`: the embedded servers by hand."""

import argparse
import signal
import sys
from pathlib import Path

from billing_portal.local import daemons, servers

DEMO = "manage.py demo"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m billing_portal.local",
        description="The embedded PostgreSQL and Valkey of this checkout (in .local/, or LOCAL_DIR).",
    )
    parser.add_argument(
        "verb",
        choices=["start", "stop", "status", "env", "remove"],
        help="env prints the addresses for a shell; stop, status and remove also mean the servers of the tests and "
        "the demo (stop and remove end the demo too); remove throws the data away",
    )
    verb = parser.parse_args().verb
    directory = servers.default_directory()
    every = [directory, *sorted(state.parent for state in directory.glob("*/servers.json"))]
    if verb == "start":
        servers.ensure(directory)
        say(f"PostgreSQL and Valkey run in {directory}.")
    elif verb == "env":
        found = servers.ensure(directory)
        say(f"DATABASE_URL='{found.database_url}'\nBROKER_URL='{found.broker_url}'")
    elif verb == "status":
        running = [str(place) for place in every if servers.status(place)]
        say("\n".join(f"PostgreSQL and Valkey run in {place}." for place in running) or "Not running.")
        sys.exit(0 if running else 1)
    else:
        if end_demo(directory / "demo.pid"):
            say("Stopped: the demo.")
        stopped = [f"{name} in {place}" for place in every for name in servers.stop(place)]
        say(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")
        if verb == "remove":
            for place in every:
                servers.remove(place)


def end_demo(pid_file: Path) -> bool:
    """End the demo that `make demo` started, which takes its own processes along; return whether one ran."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return False
    pid_file.unlink()
    if DEMO not in daemons.command_line(pid):  # a number from before a reboot may be anyone's
        return False
    return daemons.end(pid, by=signal.SIGTERM, within_seconds=90, marks=DEMO)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
