"""Why a study gets no result object."""

from __future__ import annotations

from triage.errors import TriageError


class NoReport(TriageError):
    """A study that can't have a result object: its UID is invalid, or none of its films can be referenced."""

    code = "no-report"
