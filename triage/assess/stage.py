"""The jobs of this room: judge one film; say what a complete study's films mean together.

Each handler is idempotent: the answer, the study's step, the place in the list, the next job and the end
of this job are one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from triage.assess.classifier import Classifier
from triage.domain.assessment import FilmAssessment, StudyConclusion, conclude
from triage.domain.entry import EntryVerb
from triage.domain.finding import NotEvaluated, Outcome
from triage.domain.policy import Policy
from triage.domain.study import StudyState, StudyStep
from triage.store import assessments, entries, instances, studies
from triage.store.database import Database
from triage.store.tables import Instance, Study
from triage.work.queue import Queue, Stage, TakenJob

log = logging.getLogger(__name__)

#: How often a film may make the model fail before it is put aside, visible as such.
MAX_ATTEMPTS = 3
_CONCLUDABLE = (StudyState.COMPLETE, StudyState.ASSESSING)
#: Reasons that mean that we failed, not that the film is no matter for the model.
_FAILURES = frozenset({NotEvaluated.MODEL_FAILURE, NotEvaluated.TIMEOUT})


class AssessStage:
    """The handlers of the stages `assess` and `conclude`."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        classifier: Classifier,
        *,
        spool: Path,
        clock: Callable[[], datetime],
        policy: Callable[[Session], Policy],
    ) -> None:
        """`spool` is the folder below which the instances' paths lie."""
        self._db = db
        self._queue = queue
        self._classifier = classifier
        self._spool = spool
        self._clock = clock
        self._policy = policy

    def assess_film(self, job: TakenJob) -> None:
        """Judge the film of a job and let its study rank by the answer at once.

        A film that was judged before, replaced or removed asks for nothing more. Raises what made the
        model fail until `MAX_ATTEMPTS`; then the film is kept as not evaluated (model-failure).
        """
        with self._db.read() as session:
            instance = self._due(session, int(job.payload["instance_id"]))
        if instance is None:
            with self._db.write() as session:
                self._queue.finish(session, job)
            return
        film = self._judge(instance, job.attempts)
        with self._db.write() as session:
            self._keep(session, instance.id, film)
            self._queue.finish(session, job)

    def _due(self, session: Session, instance_id: int) -> Instance | None:
        """Return the instance if this model has still to judge it."""
        instance = session.get(Instance, instance_id)
        if (
            instance is None
            or not instance.current
            or instance.unjudged is not None
            or instance.study_id is None
        ):
            return None
        digest = self._classifier.model.sha256
        return None if assessments.of_instance(session, instance_id, digest) else instance

    def _judge(self, instance: Instance, attempts: int) -> FilmAssessment:
        """Return the answer; after the last attempt a failure is an answer too.

        A job that comes back although its handler never raised took its process with it: it is not tried
        without end either.
        """
        uid = instance.sop_instance_uid
        if attempts > MAX_ATTEMPTS:
            return self._classifier.failed(
                uid, "The film made the service fail repeatedly and was put aside."
            )
        if not instance.path:
            sentence = "The film's file was removed by the retention policy before it was judged."
            return self._classifier.failed(uid, sentence, NotEvaluated.NO_PIXELS)
        try:
            judged = self._classifier.judge_file(self._spool / instance.path, uid)
        except Exception as error:
            if attempts < MAX_ATTEMPTS:
                raise
            log.exception(
                "A film could not be judged.", extra={"event": "assess_failed", "instance": instance.id}
            )
            missing = isinstance(error, FileNotFoundError)
            if missing:
                return self._classifier.failed(
                    uid, "The film's file is missing in the spool.", NotEvaluated.NO_PIXELS
                )
            return self._classifier.failed(uid, f"The model failed at this film ({type(error).__name__}).")
        if judged.quirks:
            said = {"event": "film_quirks", "instance": instance.id, "quirks": ",".join(judged.quirks)}
            log.info("A film has quirks.", extra=said)
        return judged.assessment

    def _keep(self, session: Session, instance_id: int, film: FilmAssessment) -> None:
        """Write the answer down, re-rank the study, and ask for the conclusion if this was its last film."""
        instance = self._due(session, instance_id)
        if instance is None:
            return
        limits = self._classifier.model.any_disease
        assessments.add(session, instance, film, any_disease_low=limits.low, any_disease_high=limits.high)
        study = session.get(Study, instance.study_id)
        if study is None:
            return
        now = self._clock()
        entries.rerank(
            session, study, self._policy(session), now, verb=EntryVerb.ASSESSED, cause=film.sentence
        )
        if study.state in _CONCLUDABLE and instances.films_pending(session, study.id) == 0:
            self._ask_conclusion(session, study, now)
        said: dict[str, object] = {
            "event": "assessed",
            "instance": instance.id,
            "study": study.id,
            "outcome": film.outcome.value,
            "milliseconds": round((film.finished_at - film.started_at).total_seconds() * 1e3, 1),
        }
        if film.reason is not None:
            said |= {"reason": film.reason.value, "sentence": film.sentence}
        log.info("A film was judged.", extra=said)

    def _ask_conclusion(self, session: Session, study: Study, now: datetime) -> None:
        payload = {"study_id": study.id, "version": study.version}
        self._queue.put(session, Stage.CONCLUDE, f"{study.id}/{study.version}", payload, now)

    def conclude_study(self, job: TakenJob) -> None:
        """Say what a complete study's films mean together, and ask for its report.

        While films are pending the study only moves to `assessing`: the last film asks again. A version
        that late images have overtaken asks for nothing.
        """
        with self._db.write() as session:
            study = session.get(Study, int(job.payload["study_id"]))
            self._queue.finish(session, job)
            if study is None or study.version != job.payload["version"] or study.state not in _CONCLUDABLE:
                return
            now = self._clock()
            if study.state is StudyState.COMPLETE:
                studies.step(session, study, StudyStep.ASSESS, now, cause="complete")
            if instances.films_pending(session, study.id):
                return
            said = self._conclusion(session, study)
            studies.step(
                session, study, _step_of(said), now, cause=said.outcome.value, sentence=said.sentence
            )
            entries.rerank(
                session, study, self._policy(session), now, verb=EntryVerb.CONCLUDED, cause=said.sentence
            )
            payload = {"study_id": study.id, "version": study.version}
            self._queue.put(session, Stage.REPORT, f"{study.id}/{study.version}", payload, now)
        log.info(
            "A study was concluded.",
            extra={
                "event": "concluded",
                "study": study.id,
                "version": study.version,
                "outcome": said.outcome.value,
            },
        )

    @staticmethod
    def _conclusion(session: Session, study: Study) -> StudyConclusion:
        films = [assessments.to_domain(row) for row in assessments.of_study(session, study.id)]
        return conclude(films, {item.unjudged for item in instances.of_study(session, study.id)})


def _step_of(said: StudyConclusion) -> StudyStep:
    if said.outcome is not Outcome.NOT_EVALUATED:
        return StudyStep.ASSESSED
    return StudyStep.FAIL if said.reason in _FAILURES else StudyStep.NOT_EVALUATED
