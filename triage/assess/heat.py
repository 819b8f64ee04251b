"""A heat map for the page, made when a reader asks for it and never on a film's way to the list."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from triage.assess.classifier import Classifier
from triage.domain.finding import Finding
from triage.errors import TriageError

if TYPE_CHECKING:
    from triage.assess.explain import Explainer

#: The side at which film and heat are laid over each other, and the long side of the picture, in pixels.
_SIDE = 512
_LONGEST = 800
#: Whoever waits longer for the maps of others is told so.
_PATIENCE = 30.0  # seconds


class NoHeatMap(TriageError):
    """A film for which no heat map can be made: it is gone, has no answer, or too many are being made."""

    code = "no-heat-map"


class HeatMapper:
    """Makes one heat map at a time, with the classifier's own model; safe to call from many threads."""

    def __init__(self, spool: Path, classifier: Classifier) -> None:
        """Load nothing yet: the network with gradients is only needed where somebody asks."""
        self._spool = spool
        self._classifier = classifier
        self._turn = threading.Lock()
        self._explainer: Explainer | None = None

    def __call__(self, relative: str, finding: str) -> bytes:
        """Return film and heat map of a finding as a PNG; `relative` is the film's path below the spool.

        Raises:
            NoHeatMap: the film was removed, has no pixels to explain, or others are being made.
        """
        if not self._turn.acquire(timeout=_PATIENCE):
            msg = "Other heat maps are being made; try again in a minute."
            raise NoHeatMap(msg)
        try:
            return self._made(relative, Finding(finding))
        finally:
            self._turn.release()

    def _made(self, relative: str, finding: Finding) -> bytes:
        from triage.assess.explain import Explainer, overlay

        try:
            judged = self._classifier.judge_file(self._spool / relative) if relative else None
        except OSError:
            judged = None
        if judged is None or judged.film is None or judged.prepared is None:
            msg = "The film is no longer here or has no picture to explain; open it in the site's viewer."
            raise NoHeatMap(msg)
        if self._explainer is None:
            self._explainer = Explainer(self._classifier.model)
        heat = self._explainer.map(judged.prepared, finding)
        picture = overlay(judged.film.reduced(_SIDE), heat)
        done, data = cv2.imencode(".png", judged.film.shown(picture, _LONGEST))
        if not done:
            msg = "The heat map's picture could not be made; tell the administrator."
            raise NoHeatMap(msg)
        return bytes(data)
