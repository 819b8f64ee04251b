"""The kinds of result objects by the names of the configuration."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataset import Dataset

from triage.report.build import ReportInput
from triage.report.ko import build_ko
from triage.report.sr import build_sr
from triage.report.text_sr import build_text_sr

Builder = Callable[[ReportInput], Dataset | None]

#: A builder returns None for a study that has nothing to say in that form.
KINDS: dict[str, Builder] = {"sr": build_sr, "text_sr": build_text_sr, "ko": build_ko}
