"""Every status that a peer may answer asks for one thing."""

from __future__ import annotations

import pytest

from triage.deliver.status import Verdict, sentence, verdict


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        (0x0000, Verdict.STORED),
        (0xB000, Verdict.STORED),
        (0xB006, Verdict.STORED),
        (0xB007, Verdict.STORED),
        (0x0111, Verdict.DUPLICATE),
        (0xA700, Verdict.LATER),
        (0xA702, Verdict.LATER),
        (0xA900, Verdict.REFUSED),
        (0xC000, Verdict.REFUSED),
        (0xCFFF, Verdict.REFUSED),
        (0x0110, Verdict.REFUSED),
        (0x0122, Verdict.REFUSED),
        (0x0124, Verdict.REFUSED),
        (0x9999, Verdict.REFUSED),
    ],
)
def test_what_a_status_asks_of_the_sender(status: int, meant: Verdict) -> None:
    assert verdict(status) is meant


@pytest.mark.parametrize("status", [0x0000, 0xA700, 0xC123, 0x9999])
def test_a_status_in_words_names_its_number(status: int) -> None:
    assert f"0x{status:04X}" in sentence(status)
