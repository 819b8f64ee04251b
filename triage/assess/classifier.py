"""One film judged: pixels, gate, network, thresholds, and a sentence.

The service, `classify` and `evaluate` over DICOM all come through here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from triage.assess.decode import DecoderPool
from triage.assess.engine import Engine
from triage.assess.errors import PixelError
from triage.assess.film import Film
from triage.assess.header import empty_header, header_of
from triage.assess.pixels import film_of, read_picture
from triage.assess.polarity import looks_inverted
from triage.assess.prepare import KEPT, Prepare
from triage.assess.registry import Model
from triage.assess.scale import Floats
from triage.assess.source import is_dicom, open_source
from triage.assess.view import opinion, weigh
from triage.domain.assessment import FilmAssessment
from triage.domain.finding import (
    CLASSES,
    WORDS,
    Finding,
    FindingResult,
    FindingState,
    NotEvaluated,
    Outcome,
    finding_state,
)
from triage.domain.header import Header

Prepared = npt.NDArray[np.float32]

_INVERTED = (
    "The film seems to be its own negative, lungs bright and bones dark, though the header does not say so."
)
#: What the gate must reach for a film that was turned, or for its negative, to be believed: of the validation
#: split's pictures that are no frontal films, one in 272 passes when turned; of films on their side all do.
_CONFIDENT = 0.95


@dataclass(frozen=True)
class Judged:
    """An assessment with what it was made from, for explanations; `film` is None when there are no pixels."""

    assessment: FilmAssessment
    film: Film | None = None
    prepared: Prepared | None = None
    #: Class probabilities [6], also of a film that the gate stopped.
    classes: Floats | None = None
    #: What the header had wrong, and where film and header disagree.
    quirks: tuple[str, ...] = ()


class Classifier:
    """Judges films by one model and one engine; safe to call from many threads."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        *,
        pool: DecoderPool | None = None,
        minimum_age: float = 0.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`minimum_age` in years is the site's limit for patients, 0 for none."""
        self.model = model
        self.engine = engine
        self._prepare = Prepare(model.size)
        self._pool = pool
        self._minimum_age = minimum_age
        self._clock = clock

    def judge_file(self, path: Path, sop_instance_uid: str = "") -> Judged:
        """Return the answer for a DICOM or picture file; whatever is wrong with the film is an answer too.

        Raises only what is no property of the film: OSError when the file can't be read, and whatever a
        failing engine raises. `sop_instance_uid` names the film where it is known already.
        """
        started = self._clock()
        header = empty_header()
        try:
            if is_dicom(path):
                source = open_source(path)
                header = header_of(source)
                return self._judge(header, lambda: film_of(source, self._pool), started, sop_instance_uid)
            return self._judge(header, lambda: read_picture(path), started, sop_instance_uid)
        except PixelError as error:
            uid = sop_instance_uid or header.sop_instance_uid
            return Judged(self._not_evaluated(uid, error.reason, error.sentence, None, started))

    def _judge(self, header: Header, read: Callable[[], Film], started: datetime, uid: str) -> Judged:
        uid = uid or header.sop_instance_uid
        said = opinion(header, self._minimum_age)
        if said.reason is not None:
            return Judged(self._not_evaluated(uid, said.reason, said.sentence, None, started))
        film = read()
        reduced = film.reduced(KEPT)
        prepared = self._prepare(reduced)
        classes, gate = self._infer(prepared)
        if looks_inverted(reduced) and self._gates([-prepared])[0] >= _CONFIDENT:
            answer = self._not_evaluated(uid, NotEvaluated.BAD_GEOMETRY, _INVERTED, gate, started)
            return Judged(answer, film, prepared, classes)
        if gate < self.model.gate and said.frontal is not False and said.chest is not False:
            quarters = self._turn(prepared)
            if quarters:
                film = film.turned(quarters)
                prepared = np.ascontiguousarray(np.rot90(prepared, quarters, (1, 2)))
                classes, gate = self._infer(prepared)
        verdict = weigh(said, gate, self.model.gate)
        quirks = (*film.quirks, *filter(None, [verdict.disagreement]))
        if verdict.reason is not None:
            answer = self._not_evaluated(uid, verdict.reason, verdict.sentence, gate, started)
            return Judged(answer, film, prepared, classes, quirks)
        return Judged(self._evaluated(uid, classes, gate, started), film, prepared, classes, quirks)

    def _infer(self, prepared: Prepared) -> tuple[Floats, float]:
        logits = self.engine.infer(prepared[None])
        return self.model.scale.classes(logits)[0], float(self.model.scale.gate(logits)[0])

    def _turn(self, prepared: Prepared) -> int:
        """Return by how many quarters a film lies on its side or head, 0 when no turn makes it a film."""
        upright = self._gates([np.rot90(prepared, quarters, (1, 2)) for quarters in (1, 2, 3)])
        return int(upright.argmax()) + 1 if upright.max() >= _CONFIDENT else 0

    def _gates(self, films: Sequence[Prepared]) -> Floats:
        """Return the gate's probability for each of some prepared films."""
        return self.model.scale.gate(self.engine.infer(np.stack(films)))

    def _evaluated(self, uid: str, classes: Floats, gate: float, started: datetime) -> FilmAssessment:
        outcome, any_disease, findings = answer_of(self.model, classes)
        return self._answer(
            uid,
            started,
            outcome=outcome,
            sentence=sentence_of(outcome, any_disease, findings),
            frontal=gate,
            any_disease=any_disease,
            findings=findings,
        )

    def _not_evaluated(
        self, uid: str, reason: NotEvaluated, sentence: str, gate: float | None, started: datetime
    ) -> FilmAssessment:
        return self._answer(
            uid, started, outcome=Outcome.NOT_EVALUATED, reason=reason, sentence=sentence, frontal=gate
        )

    def failed(
        self, uid: str, sentence: str, reason: NotEvaluated = NotEvaluated.MODEL_FAILURE
    ) -> FilmAssessment:
        """Return the answer for a film at which the model or its file failed for good."""
        return self._not_evaluated(uid, reason, sentence, None, self._clock())

    def _answer(
        self,
        uid: str,
        started: datetime,
        *,
        outcome: Outcome,
        sentence: str,
        reason: NotEvaluated | None = None,
        frontal: float | None = None,
        any_disease: float | None = None,
        findings: tuple[FindingResult, ...] = (),
    ) -> FilmAssessment:
        return FilmAssessment(
            sop_instance_uid=uid,
            outcome=outcome,
            reason=reason,
            sentence=sentence,
            frontal=frontal,
            any_disease=any_disease,
            findings=findings,
            model=self.model.label,
            model_digest=self.model.sha256,
            started_at=started,
            finished_at=self._clock(),
        )


def answer_of(model: Model, classes: Floats) -> tuple[Outcome, float, tuple[FindingResult, ...]]:
    """Return what the class probabilities [6] of a film mean at a model's operating points.

    The film is positive from the any-disease threshold on, or with any finding present; else undetermined
    with any of them in its grey zone.
    """
    any_disease = float(1 - classes[CLASSES.index("normal")])
    findings = tuple(_finding(model, finding, float(classes[CLASSES.index(finding)])) for finding in Finding)
    states = {finding.state for finding in findings}
    if any_disease >= model.any_disease.high or FindingState.PRESENT in states:
        return Outcome.POSITIVE, any_disease, findings
    if any_disease >= model.any_disease.low or FindingState.UNDETERMINED in states:
        return Outcome.UNDETERMINED, any_disease, findings
    return Outcome.NEGATIVE, any_disease, findings


def _finding(model: Model, finding: Finding, probability: float) -> FindingResult:
    limits = model.findings[finding]
    state = finding_state(probability, limits.low, limits.high)
    return FindingResult(finding, probability, state, limits.low, limits.high)


def sentence_of(outcome: Outcome, any_disease: float, findings: tuple[FindingResult, ...]) -> str:
    """Return what the list and the report say of an evaluated film, in one plain sentence."""
    wanted = FindingState.PRESENT if outcome is Outcome.POSITIVE else FindingState.UNDETERMINED
    shown = sorted((f for f in findings if f.state is wanted), key=lambda f: -f.probability)
    named = " and ".join(f"{WORDS[f.finding]} ({f.probability:.2f})" for f in shown[:3])
    match outcome:
        case Outcome.POSITIVE if named:
            return f"Appearance resembling {named}."
        case Outcome.POSITIVE:
            return f"Probably not normal ({any_disease:.2f}), without one finding standing out."
        case Outcome.UNDETERMINED if named:
            return f"Undetermined; {named} can't be excluded."
        case Outcome.UNDETERMINED:
            return f"Undetermined; a disease ({any_disease:.2f}) can't be excluded."
        case _:
            return f"No sign of the diseases that the model knows (any disease {any_disease:.2f})."
