"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.peers import dcmtk, late_orthanc, orthanc, orthanc_server

__all__ = ["dcmtk", "late_orthanc", "orthanc", "orthanc_server", "shared"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test material beside the checkout; the test is skipped where it is absent."""
    folder = Path(os.environ.get("TRIAGE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "dicom").is_dir():
        pytest.skip(f"{folder} is not here.")
    return folder
