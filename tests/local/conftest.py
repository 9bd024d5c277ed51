import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing_portal.local import servers


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for servers of the test's own that 'nobody' can enter, unlike pytest's."""
    root = Path(tempfile.mkdtemp(prefix="portal-"))
    root.chmod(0o755)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("BROKER_URL", raising=False)
    monkeypatch.setenv("LOCAL_DIR", str(root / "local"))
    yield root / "local"
    servers.remove(root / "local")
    shutil.rmtree(root)
