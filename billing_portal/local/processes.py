"""The portal's processes, started and stopped together: sandbox, web, worker, beat. Needs no Django."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
_START_SECONDS = 90
_STOP_SECONDS = 15


class CannotStart(SystemExit):
    """A process did not come up; says which, and where to read why."""


@dataclass
class Processes:
    """Child processes by name, each in a session of its own with a log file of its own."""

    logs: Path
    environment: dict[str, str]
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        """Start `command` with this Python; its output goes to `<name>.log`."""
        self.commands[name] = [sys.executable, *command]
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(  # noqa: S603 - our own programs
                self.commands[name],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
                cwd=CHECKOUT,
                start_new_session=True,
            )

    def run(self, *command: str) -> int:
        """Run `command` with this Python in the foreground, with these processes' environment; return its exit code."""
        environment = {**os.environ, **self.environment}
        return subprocess.call([sys.executable, *command], env=environment, cwd=CHECKOUT)  # noqa: S603

    def kill(self, name: str) -> None:
        """Kill a process and all it started, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.children[name].pid, signal.SIGKILL)
        self.children[name].wait()

    def restart(self, name: str) -> None:
        """Start a process again as it was started."""
        self.start(name, *self.commands[name][1:])

    def wait_for(self, name: str, url: str) -> None:
        """Return when `url` answers at all; raise CannotStart when the process ended or took too long."""
        give_up_at = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up_at:
            self.assert_running(name)
            if _answers(url):
                return
            time.sleep(0.1)
        raise CannotStart(f"{name} did not answer within {_START_SECONDS} s. See {self.logs / name}.log.")

    def assert_running(self, name: str) -> None:
        """Raise CannotStart if a process ended."""
        if (code := self.children[name].poll()) is not None:
            tail = (self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-12:]
            lines = "\n  ".join(tail)
            raise CannotStart(f"{name} stopped with code {code}. Its last words, in {self.logs / name}.log:\n  {lines}")

    def stop(self) -> None:
        """End all processes, the one started last first: politely, then by force."""
        for name, child in reversed(self.children.items()):
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill(name)
        self.children.clear()


class MemoryWatch(threading.Thread):
    """Sample how much memory processes hold together (proportional set size) and keep the peak."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(daemon=True)
        self.processes = processes
        self.peak_bytes = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(1.0):
            pids = [child.pid for child in list(self.processes.children.values())]
            self.peak_bytes = max(self.peak_bytes, sum(proportional_bytes(pid) for pid in _with_children(pids)))


def is_free(port: int) -> bool:
    """Say whether nothing listens on the loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own loopback address
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _with_children(pids: list[int]) -> list[int]:
    """Return the processes of the sessions that these lead."""
    sessions, found = set(pids), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions:
                found.append(int(entry.name))
    return found


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process, with its part of what it shares; 0 for one that has ended."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
