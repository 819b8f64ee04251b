"""What other people's validators say of an object."""

from __future__ import annotations

from pathlib import Path

from tests.peers import Dcmtk


def assert_valid(dcmtk: Dcmtk, path: Path) -> str:
    """Fail unless dciodvfy finds no error and dsrdump no fault; return the object as dsrdump prints it."""
    checked = dcmtk.run("dciodvfy", path)
    errors = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("Error")]
    assert errors == []
    dumped = dcmtk.run("dsrdump", "+Pl", path)
    assert dumped.returncode == 0, dumped.stderr
    complaints = [line for line in dumped.stderr.splitlines() if line.startswith(("E:", "W:"))]
    # What dcmtk 3.6.7 can't check is no word about the object: UTF-8 values, templates of key objects.
    unable = ("does not support this Specific Character Set", "not yet supported")
    assert [line for line in complaints if not any(words in line for words in unable)] == []
    return dumped.stdout
