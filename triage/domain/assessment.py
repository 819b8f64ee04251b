"""What the model said of a film, and what a study's films say together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from triage.domain.finding import REASON_PHRASES, TECHNICAL, FindingResult, NotEvaluated, Outcome


@dataclass(frozen=True)
class FilmAssessment:
    """The answer for one film; `reason` is set exactly when the outcome is not_evaluated."""

    sop_instance_uid: str
    outcome: Outcome
    reason: NotEvaluated | None
    #: One plain sentence for list, log and report; names no patient.
    sentence: str
    #: Probability 0..1 that the picture is a frontal chest film; None when no pixels were judged.
    frontal: float | None
    any_disease: float | None
    findings: tuple[FindingResult, ...]
    #: "name/version" of the model, and the SHA-256 of its weights.
    model: str
    model_digest: str
    started_at: datetime
    finished_at: datetime

    def __post_init__(self) -> None:
        """Refuse an answer that says both 'evaluated' and 'not evaluated'."""
        if (self.outcome is Outcome.NOT_EVALUATED) != (self.reason is not None):
            msg = "A film has a reason exactly when it was not evaluated."
            raise ValueError(msg)


@dataclass(frozen=True)
class StudyConclusion:
    """What a study's films say together; `film` is the one that decided."""

    outcome: Outcome
    reason: NotEvaluated | None
    sentence: str
    film: FilmAssessment | None
    #: Why another film, which might have shown something, has no answer; None where the reason says it.
    unseen: NotEvaluated | None = None


#: Reasons in the order in which they explain a study best: the first that any film has is shown.
_REASON_ORDER = (
    NotEvaluated.MODEL_FAILURE,
    NotEvaluated.TIMEOUT,
    NotEvaluated.UNDECODABLE,
    NotEvaluated.BAD_GEOMETRY,
    NotEvaluated.NO_PIXELS,
)


def _severity(film: FilmAssessment) -> tuple[int, float, str]:
    rank = {Outcome.POSITIVE: 3, Outcome.UNDETERMINED: 2, Outcome.NEGATIVE: 1, Outcome.NOT_EVALUATED: 0}
    return (rank[film.outcome], film.any_disease or 0.0, film.sop_instance_uid)


def conclude(
    films: Sequence[FilmAssessment], unjudged: Collection[NotEvaluated | None] = ()
) -> StudyConclusion:
    """Return the answer of the worst evaluated film, never a mean: one diseased film is enough.

    A study without any evaluated film is not evaluated; a technical failure is named before a matter of
    view, since a film that failed to decode might have been the frontal one. `unjudged` says why objects
    of the study were kept out of assessment. An answer beside a film that failed technically says so: no
    sign of disease on one film says nothing of the other.
    """
    if not films and NotEvaluated.FOR_PROCESSING in unjudged:
        sentence = "Only raw films for processing came, none for presentation."
        return StudyConclusion(Outcome.NOT_EVALUATED, NotEvaluated.FOR_PROCESSING, sentence, None)
    if not films:
        sentence = "No chest radiograph is among the objects of this study."
        return StudyConclusion(Outcome.NOT_EVALUATED, NotEvaluated.NOT_CR_DX, sentence, None)
    worst = max(films, key=_severity)
    if worst.outcome is not Outcome.NOT_EVALUATED:
        failed = {film.reason for film in films} & TECHNICAL
        unseen = next((reason for reason in (*_REASON_ORDER, *NotEvaluated) if reason in failed), None)
        sentence = worst.sentence
        if unseen is not None:
            sentence += f" Another film was not evaluated: {REASON_PHRASES[unseen]}."
        return StudyConclusion(worst.outcome, None, sentence, worst, unseen)
    for reason in _REASON_ORDER:
        for film in films:
            if film.reason is reason:
                return StudyConclusion(film.outcome, film.reason, film.sentence, film)
    first = min(films, key=lambda film: film.sop_instance_uid)
    return StudyConclusion(first.outcome, first.reason, first.sentence, first)
