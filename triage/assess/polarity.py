"""Whether a film is shown the right way round, black for air: told from the pixels alone.

A header that says MONOCHROME2 over inverted pixels cannot be seen in the header. Border, shoulders and
lungs are dark and the middle is bright in every frontal film, so one linear template settles it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

_SIDE = 12
#: Logistic regression without intercept on the ranks of a 12 x 12 thumbnail, frontal films of the training
#: split against the same films inverted; 0 of 1,879 validation films are on the wrong side of zero.
_TEMPLATE = np.array(
    (
        (-99, -85, -78, -61, -21, 24, 29, -11, -43, -57, -66, -75),
        (-63, -37, -30, -31, -16, 25, 32, -7, -10, -8, -17, -37),
        (-29, -14, -15, -36, -25, 19, 22, -28, -22, 10, 13, -10),
        (-16, -3, -16, -51, -36, 23, 26, -40, -38, 10, 28, 7),
        (-18, 0, -23, -56, -31, 33, 43, -28, -43, 1, 31, 6),
        (-28, -6, -30, -51, -11, 56, 65, 2, -31, -4, 18, -1),
        (-38, -15, -31, -40, 8, 78, 82, 29, -10, -9, 5, -13),
        (-48, -17, -23, -18, 25, 92, 99, 55, 17, -3, -4, -22),
        (-56, -24, -17, -5, 33, 94, 99, 64, 26, -8, -20, -38),
        (-60, -29, -3, 17, 50, 90, 96, 61, 30, -11, -32, -56),
        (-61, -20, 20, 46, 68, 89, 94, 66, 39, 0, -36, -71),
        (-57, -7, 38, 61, 76, 87, 87, 69, 50, 18, -22, -70),
    ),
    np.float32,
)
#: No frontal film of the validation and test splits scores below; of inverted ones 99.8 % do.
INVERTED_BELOW = -200.0


def polarity(picture: npt.NDArray[np.float32]) -> float:
    """Return a score that is positive for a film with black air and negative for an inverted one.

    Only ranks count, so window and contrast do not matter; the score of the negative is minus the score.
    The value says nothing about pictures that are no frontal chest films.
    """
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).ravel()
    # mean of both tie-breaking orders, so that equal greys get equal ranks up to their neighbours
    ranks = np.searchsorted(np.sort(small), small, "left") + np.searchsorted(np.sort(small), small, "right")
    centred = ranks / (2 * small.size) - 0.5
    return float(centred @ _TEMPLATE.ravel())


def looks_inverted(picture: npt.NDArray[np.float32]) -> bool:
    """Return whether a picture, if it is a frontal chest film, is shown as its negative."""
    return polarity(picture) < INVERTED_BELOW
