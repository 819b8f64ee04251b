"""What stops the pixel chain: a reason for the report and a sentence for the reader."""

from __future__ import annotations

from triage.domain.finding import NotEvaluated
from triage.errors import TriageError


class PixelError(TriageError):
    """A film that cannot be shown to the model; `reason` is the stable code, the text one plain sentence."""

    code = "pixels"

    def __init__(self, reason: NotEvaluated, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
