"""What every test may ask for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest

from triage import samples
from triage.store import migrations
from triage.store.database import Database

# The rest of the machine needs its cores too; and two pools that spin slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no failure of a property.
hypothesis.settings.register_profile("triage", deadline=None)
hypothesis.settings.load_profile("triage")

pytest_plugins = ["tests.peers"]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of films and objects beside the project; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared"
    if not (folder / "dicom").is_dir():
        pytest.skip("the folder ../shared is not here")
    return folder


@pytest.fixture(scope="session")
def sample_films(pytestconfig: pytest.Config) -> list[samples.Sample]:
    """The sample studies, kept between runs: other code draws them anew."""
    assert pytestconfig.cache
    folder = pytestconfig.cache.mkdir("samples")
    with folder.with_suffix(".lock").open("w") as lock:
        # tests run in two processes: one draws, the other waits
        fcntl.flock(lock, fcntl.LOCK_EX)
        return samples.write(folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as a process of a team does."""
    import torch  # reads OMP_NUM_THREADS, and most tests need none of it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int | str, str, str]]:
    """Run `triage ARGUMENTS` in this process; gives the exit code, standard output and standard error."""
    from triage.cli.main import main  # most tests need no command

    def run(*arguments: object) -> tuple[int | str, str, str]:
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["triage", *map(str, arguments)])
            try:
                code = main()
            except SystemExit as ended:
                code = ended.code
        said = capsys.readouterr()
        return code or 0, said.out, said.err

    return run


@pytest.fixture
def now() -> datetime:
    """A fixed time of day."""
    return datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database at the newest revision."""
    database = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    migrations.upgrade(database)
    yield database
    database.close()
