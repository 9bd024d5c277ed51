"""What the two servers share: an account, a private place, a life beyond their starter, plain words."""

import errno
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOG_LIMIT_BYTES = 10_000_000
SPARE_BYTES = 16_000_000  # with less than this free, a server that did not start is blamed on the disk


class CannotServe(SystemExit):
    """End the command with a line on what happened and a line on what to do, never with a traceback."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n{remedy}")
        self.what = what
        self.remedy = remedy


def tell(line: str) -> None:
    """Say one line to whoever started the command; stdout belongs to the command's own answer."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Owner:
    """The account the servers run under: the caller's, or `nobody` for root, as PostgreSQL refuses root."""

    uid: int
    gid: int
    differs: bool

    @classmethod
    def choose(cls) -> "Owner":
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), differs=False)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise CannotServe(
                "PostgreSQL does not run as root, and this machine has no user 'nobody' to run it.",
                "Run this as an ordinary user, or set DATABASE_URL and BROKER_URL to servers of your own.",
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid, differs=True)

    def run(self, command: Sequence[str | Path], **options: object) -> "subprocess.CompletedProcess[str]":
        """Run a short command as this account, its output captured as one text."""
        identity: dict[str, object] = {}
        if self.differs:
            identity = {"user": self.uid, "group": self.gid, "extra_groups": []}
        settings: dict[str, object] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "stdin": subprocess.DEVNULL,
            "text": True,
            "errors": "replace",
            "cwd": "/",
            "env": environment(),
            **identity,
            **options,
        }
        try:
            return subprocess.run(command, check=False, **settings)  # type: ignore[call-overload,no-any-return]  # noqa: S603
        except OSError as error:
            if not self.differs or str(error.filename) == str(command[0]):
                raise
            raise CannotServe(
                f"PostgreSQL does not run as root, and this machine lets no one become 'nobody' ({error}).",
                "Run this as an ordinary user, or set DATABASE_URL and BROKER_URL to servers of your own.",
            ) from error

    def reaches(self, path: Path) -> bool:
        """Whether this account can enter the directory (asked of the kernel, as modes are not all)."""
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", path]).returncode == 0

    def private_directory(self, path: Path) -> Path:
        """Make a directory only this account and root can enter; refuse one that another user laid there."""
        with_parents = not path.parent.exists()
        path.mkdir(mode=0o700, parents=with_parents, exist_ok=True)
        if self.differs and path.lstat().st_uid == os.geteuid():
            os.chown(path, self.uid, self.gid)
        refuse_foreign(path, self.uid)
        path.chmod(0o700)
        return path


def refuse_foreign(path: Path, uid: int) -> None:
    """Stop at a directory in a shared place that another account made or that is a link."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
        raise CannotServe(
            f"{path} belongs to another user, so the servers cannot keep their files there.",
            f"Remove {path}, or set LOCAL_DIR to a directory of your own.",
        )


def environment() -> dict[str, str]:
    """Return the caller's environment without what redirects PostgreSQL or translates its messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def key(path: Path) -> str:
    """Give the directory a short stable name, for places outside of it."""
    return "billing-portal-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def place(directory: Path, owner: Owner) -> Path:
    """Return where the servers' files go: the directory, or one in /var/tmp if the owner cannot reach it."""
    if not owner.differs or owner.reaches(directory):
        return directory
    shared = Path("/var/tmp")  # noqa: S108 - survives a reboot; the directory's owner is checked
    elsewhere = (shared if shared.is_dir() else Path(tempfile.gettempdir())) / key(directory)
    elsewhere.mkdir(mode=0o755, exist_ok=True)
    refuse_foreign(elsewhere, os.geteuid())
    elsewhere.chmod(0o755)
    return elsewhere


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name where everyone may read it; on another disk, or if it is private, a second copy."""
    mode = Path(source).stat().st_mode
    if mode & stat.S_IROTH:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if mode & stat.S_IXUSR else 0o644)


def is_copy(target: Path, *, of: Path) -> bool:
    return target.exists() and target.stat().st_size == of.stat().st_size


def spawn(command: Sequence[str | Path], *, owner: Owner, log: Path) -> int:
    """Start a server that outlives this process and is nobody's child; return its process id.

    The shell in between hands the server to init: a starter that lives on would otherwise keep a killed
    server as a zombie, which looks alive.
    """
    mode = "wb" if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES else "ab"
    with log.open(mode) as output:
        started = owner.run(
            ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
            stderr=output,
            start_new_session=True,
        )
    return int(started.stdout)


def command_line(pid: int) -> str:
    """Return the command of a living process; empty when there is none (or only its zombie)."""
    if not Path("/proc/self").exists():
        query = ["/bin/ps", "-o", "command=", "-p", str(pid)]
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    """Whether the process lives; unlike its command line, this stays true while it turns into the server."""
    if not Path("/proc/self").exists():
        return bool(command_line(pid))
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def end(pid: int, *, by: signal.Signals, within_seconds: float, marks: str) -> bool:
    """Signal the process and wait until it is gone; `marks` is what its command line must still say."""
    try:
        os.kill(pid, by)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + within_seconds
    while marks in command_line(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def tail(log: Path, *, since: int = 0, lines: int = 8) -> str:
    """Return the log's last lines written after an offset, indented for a message."""
    try:
        written = log.read_bytes()[since:].decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in written[-lines:])


def did_not_start(name: str, where: Path, said: str) -> CannotServe:
    """Explain a server that ended before it answered: mostly a full disk, else by its own last words."""
    if "No space left on device" in said or shutil.disk_usage(where).free < SPARE_BYTES:
        return disk_full(where, name)
    return CannotServe(
        f"{name} did not start in {where}. The end of what it said:{said or ' nothing.'}",
        "Mend what it names, or throw this copy away with `python -m billing_portal.local remove`.",
    )


def disk_full(where: Path, name: str = "The servers") -> CannotServe:
    return CannotServe(
        f"{name} could not write to {where}: the disk is full.",
        "Free some 200 MB there, or set LOCAL_DIR to a directory on another disk, and try again.",
    )


@contextmanager
def plain_disk_errors(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into plain messages."""
    try:
        yield
    except OSError as error:
        several = str(error) if isinstance(error, shutil.Error) else ""
        if error.errno in {errno.ENOSPC, errno.EDQUOT} or f"[Errno {errno.ENOSPC}]" in several:
            raise disk_full(where) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise CannotServe(
                f"{error.filename or where} cannot be written by this user ({error.strerror}).",
                "Give yourself that directory, or set LOCAL_DIR to another.",
            ) from error
        raise
