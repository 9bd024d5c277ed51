"""The embedded servers of the demo and the tests: long-lived, and shared by all processes of one checkout.

Whoever comes first starts them, everyone after attaches, `python -m billing_portal.local stop` ends them.
Nothing here needs Django: its settings ask for the addresses.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from billing_portal.local import daemons
from billing_portal.local.postgres import Postgres
from billing_portal.local.valkey import Valkey

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LOCK_SECONDS = 330  # longer than the slowest recovery


@dataclass(frozen=True)
class Servers:
    """The addresses of a running PostgreSQL and Valkey."""

    directory: Path
    database_url: str
    broker_url: str

    def stop(self) -> None:
        stop(self.directory)


def default_directory() -> Path:
    return Path(os.environ.get("LOCAL_DIR") or CHECKOUT / ".local")


def ensure(directory: Path, *, durable: bool = True) -> Servers:
    """Return the servers of this directory, started if they do not run yet.

    `durable=False` trades crash safety for speed, for tests. Raises `CannotServe` (a `SystemExit`) with two
    plain lines when there is no way to serve.
    """
    directory = directory.absolute().resolve()
    known = _Known.read(directory)
    if known and known.is_up():
        return known.attach(durable=durable)
    with daemons.plain_disk_errors(directory), _alone(directory):
        known = _Known.read(directory)
        if known and known.is_up():
            return known.attach(durable=durable)
        return _start(directory, known, durable=durable)


def stop(directory: Path) -> list[str]:
    """Stop the servers of this directory cleanly; return the names of those that ran."""
    directory = directory.absolute().resolve()
    if not directory.is_dir():
        return []
    with daemons.plain_disk_errors(directory), _alone(directory):
        known = _Known.read(directory)
        if known is None:
            return []
        stopped = {"Valkey": known.valkey.stop(), "PostgreSQL": known.postgres.stop()}
    return [name for name, ran in stopped.items() if ran]


def remove(directory: Path) -> None:
    """Stop the servers of this directory and throw their data away."""
    directory = directory.absolute().resolve()
    stop(directory)
    if known := _Known.read(directory):
        shutil.rmtree(known.postgres.sockets, ignore_errors=True)
        if known.base != directory:
            shutil.rmtree(known.base, ignore_errors=True)
        for home in (known.postgres.home, known.valkey.home, directory / "programs", directory / "programs.new"):
            shutil.rmtree(home, ignore_errors=True)
    for name in ("servers.json", "postgres.log", "valkey.log", "valkey-server", "lock"):
        (directory / name).unlink(missing_ok=True)


def status(directory: Path) -> Servers | None:
    """Return the servers of this directory if both run; start nothing."""
    known = _Known.read(directory.absolute().resolve())
    return known.attach(durable=known.durable) if known and known.is_up() else None


def _start(directory: Path, known: "_Known | None", *, durable: bool) -> Servers:
    owner = daemons.Owner.choose()
    base = daemons.place(directory, owner)
    if base != directory:
        daemons.tell(f"'nobody', who runs PostgreSQL for root, cannot enter {directory}: its data is in {base}.")
    this = _Known(directory=directory, base=base, owner=owner, durable=durable, broker_url="")
    this.write()  # before anything runs, so that a stop after an interrupted start finds it
    if known is None or known.postgres.pid() is None or not known.postgres.answers():
        this.postgres.start(durable=durable)
    else:
        this = this.with_(durable=known.durable)
    if known and known.broker_is_up():
        this = this.with_(broker_url=known.broker_url)
    else:
        this = this.with_(broker_url=this.valkey.start(last_url=known.broker_url if known else None))
    this.write()
    return this.attach(durable=durable)


@dataclass(frozen=True)
class _Known:
    """What `servers.json` says about a directory's servers; whether it still holds is asked of them."""

    directory: Path
    base: Path
    owner: daemons.Owner
    durable: bool
    broker_url: str

    @property
    def postgres(self) -> Postgres:
        return Postgres(base=self.base, owner=self.owner, log=self.directory / "postgres.log")

    @property
    def valkey(self) -> Valkey:
        return Valkey(base=self.base, owner=self.owner, log=self.directory / "valkey.log")

    def with_(self, *, durable: bool | None = None, broker_url: str | None = None) -> "_Known":
        return _Known(
            directory=self.directory,
            base=self.base,
            owner=self.owner,
            durable=self.durable if durable is None else durable,
            broker_url=self.broker_url if broker_url is None else broker_url,
        )

    def is_up(self) -> bool:
        return self.broker_is_up() and self.postgres.answers()

    def broker_is_up(self) -> bool:
        return bool(self.broker_url) and self.valkey.pid() is not None and self.valkey.answers(self.broker_url)

    def attach(self, *, durable: bool) -> Servers:
        if durable and not self.durable:
            raise daemons.CannotServe(
                f"The servers in {self.directory} were started for tests and would lose data in a crash.",
                f"Stop them with `LOCAL_DIR={self.directory} python -m billing_portal.local stop`, "
                "or set LOCAL_DIR to another directory.",
            )
        return Servers(self.directory, self.postgres.url(), self.broker_url)

    @classmethod
    def read(cls, directory: Path) -> "_Known | None":
        try:
            found = json.loads((directory / "servers.json").read_text())
            return cls(
                directory=directory,
                base=Path(found["base"]),
                owner=daemons.Owner.choose(),
                durable=found["durable"],
                broker_url=found["broker_url"],
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # never written, or torn by a crash: everything in it can be found again

    def write(self) -> None:
        """Replace the file at once, readable by the caller only: it holds Valkey's password."""
        unfinished = self.directory / "servers.json.new"
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"base": str(self.base), "durable": self.durable, "broker_url": self.broker_url}, file)
        unfinished.replace(self.directory / "servers.json")


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other starters and stoppers out; the kernel lifts a killed process's lock, so none gets stale."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise daemons.CannotServe(
                        f"Another process has been busy with the servers in {directory} for minutes.",
                        "Wait for it, or end it, and try again.",
                    ) from None
                time.sleep(0.05)
        yield
