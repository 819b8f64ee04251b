"""A film as a small picture for the page; never for a diagnosis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from triage.assess.decode import DecoderPool
from triage.assess.errors import PixelError
from triage.assess.pixels import read_film
from triage.errors import TriageError

#: The long side of a preview, in pixels.
LONGEST = 1600


class NoPreview(TriageError):
    """A film that can't be shown here: its pixels are gone or can't be decoded."""

    code = "no-preview"


def previewer(spool: Path, pool: DecoderPool | None) -> Callable[[str], bytes]:
    """Return a function that gives a stored object, named by its path below `spool`, as an 8-bit PNG.

    The picture is shown as a viewer would, 0 = black, with square pixels.

    Raises (the returned function):
        NoPreview: the file was purged, or its pixels can't be decoded.
    """

    def preview(relative: str) -> bytes:
        if not relative:
            msg = "The film was removed by the retention policy; open it in the PACS."
            raise NoPreview(msg)
        try:
            film = read_film(spool / relative, pool)
        except (PixelError, OSError):
            msg = "The film's pixels can't be shown here; open it in the PACS."
            raise NoPreview(msg) from None
        small = film.shown(film.picture, LONGEST)
        done, data = cv2.imencode(".png", np.clip(small * 255 + 0.5, 0, 255).astype(np.uint8))
        if not done:
            msg = "The film's picture could not be made; open it in the PACS."
            raise NoPreview(msg)
        return bytes(data)

    return preview
