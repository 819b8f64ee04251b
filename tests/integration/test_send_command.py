"""`triage send` moves files to real peers and says by its exit code what became of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import JPEG2000Lossless
from typer import Typer
from typer.testing import CliRunner

from tests.peers import Dcmtk, Orthanc, free_port
from tests.pipeline import Storing
from tests.reports import CASES, film_header, report_input
from triage.cli import send as command
from triage.errors import PeerUnreachable
from triage.report.document import file_bytes
from triage.report.sr import build_sr


@pytest.fixture
def cli() -> Typer:
    app = Typer()
    app.callback()(lambda: None)
    command.register(app)
    return app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four reports, a compressed film, and a file that is no DICOM."""
    made = tmp_path / "films"
    made.mkdir()
    for number, case in enumerate(list(CASES)[:4]):
        (made / f"{number}.dcm").write_bytes(file_bytes(build_sr(report_input(*CASES[case]))))
    (made / "notes.txt").write_text("not a film")
    return made


def invoke(cli: Typer, *arguments: object) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(cli, ["send", *(str(argument) for argument in arguments)])
    return result.exit_code, result.stdout, result.exception


def test_a_folder_arrives_in_orthanc(cli: Typer, folder: Path, orthanc: Orthanc) -> None:
    code, out, _ = invoke(cli, folder, "--to", orthanc.destination, "--json")
    said = json.loads(out)
    assert (code, said["sent"], said["failed"]) == (0, 4, 0)
    assert {one["status"] for one in said["files"]} == {"0000"}
    stored = {one["MainDicomTags"]["SOPInstanceUID"] for one in orthanc.instances("1.2.3")}
    assert stored >= {one["sop_instance_uid"] for one in said["files"]}


def test_a_compressed_film_is_sent_as_it_is_stored(cli: Typer, tmp_path: Path, dcmtk: Dcmtk) -> None:
    film = film_header()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = JPEG2000Lossless
    film.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    (tmp_path / "out").mkdir()
    with dcmtk.storescp(tmp_path / "out", "+xa") as port:
        code, _, _ = invoke(cli, tmp_path / "film.dcm", "--to", f"PEER@127.0.0.1:{port}")
    assert code == 0
    (stored,) = (tmp_path / "out").iterdir()
    assert dcmread(stored).file_meta.TransferSyntaxUID == JPEG2000Lossless


def test_one_bad_file_stops_nothing_and_is_named(cli: Typer, folder: Path) -> None:
    with Storing(0x0000, 0xC000, 0x0000) as peer:
        code, out, _ = invoke(
            cli, folder, folder / "notes.txt", "--to", f"PEER@127.0.0.1:{peer.port}", "--json"
        )
    said = json.loads(out)
    assert (code, said["sent"], said["failed"]) == (1, 3, 2)
    failed = {Path(one["path"]).name: one["sentence"] for one in said["files"] if not one["ok"]}
    assert "0xC000" in failed["1.dcm"]
    assert "not a DICOM file" in failed["notes.txt"]


def test_an_unreadable_file_stops_nothing_and_is_named(cli: Typer, folder: Path) -> None:
    # The kernel itself answers EIO here.
    with Storing(0x0000) as peer:
        to = f"PEER@127.0.0.1:{peer.port}"
        code, out, _ = invoke(cli, "/proc/self/mem", folder, "--to", to, "--json")
    said = json.loads(out)
    assert (code, said["sent"], said["failed"]) == (1, 4, 1)
    (failed,) = (one for one in said["files"] if not one["ok"])
    assert "Input/output error" in failed["sentence"]


def test_nobody_there_is_exit_code_3(cli: Typer, folder: Path) -> None:
    _, _, error = invoke(cli, folder, "--to", f"PEER@127.0.0.1:{free_port()}")
    assert isinstance(error, PeerUnreachable)
    assert error.exit_code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--to", "127.0.0.1:104"],
        ["--to", "PEER@127.0.0.1:99999"],
        ["--to", "PEER@127.0.0.1:104", "--from", "A" * 17],
    ],
)
def test_wrong_usage_is_exit_code_2(cli: Typer, folder: Path, arguments: list[str]) -> None:
    assert invoke(cli, folder, *arguments)[0] == 2


def test_a_missing_file_is_exit_code_2(cli: Typer, tmp_path: Path) -> None:
    assert invoke(cli, tmp_path / "nothing.dcm", "--to", "PEER@127.0.0.1:104")[0] == 2
