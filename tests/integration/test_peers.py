"""The real peers that other tests lean on do start, answer and stop."""

from __future__ import annotations

from pathlib import Path

from tests.peers import Dcmtk, Orthanc


def test_orthanc_answers_an_echo_and_starts_empty(orthanc: Orthanc, dcmtk: Dcmtk) -> None:
    echo = dcmtk.run("echoscu", orthanc.host, orthanc.dicom_port)
    assert echo.returncode == 0, echo.stderr
    assert orthanc.instances("1.2.3") == []


def test_storescp_of_dcmtk_answers_an_echo(dcmtk: Dcmtk, tmp_path: Path) -> None:
    with dcmtk.storescp(tmp_path) as port:
        assert dcmtk.run("echoscu", "127.0.0.1", port).returncode == 0
