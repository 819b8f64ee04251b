"""The pipeline state of a study."""

from __future__ import annotations

from enum import StrEnum

from triage.domain.lifecycle import Lifecycle


class StudyState(StrEnum):
    """Where a study is on its way from the first image to the report."""

    #: Images still come.
    RECEIVING = "receiving"
    #: Some evidence says that no more images come.
    COMPLETE = "complete"
    #: Its films are being judged.
    ASSESSING = "assessing"
    ASSESSED = "assessed"
    NOT_EVALUATED = "not_evaluated"
    FAILED = "failed"


class StudyStep(StrEnum):
    """What moves a study."""

    COMPLETE = "complete"
    ASSESS = "assess"
    ASSESSED = "assessed"
    NOT_EVALUATED = "not_evaluated"
    FAIL = "fail"
    #: A late image: version n+1 begins.
    REOPEN = "reopen"


class CompletedBy(StrEnum):
    """Which evidence said that a study is complete."""

    MPPS = "mpps"
    IAN = "ian"
    COUNT = "count"
    ASSOCIATION_RELEASE = "association_release"
    QUIET = "quiet"


#: Every film that came is answered for.
SETTLED = (StudyState.ASSESSED, StudyState.NOT_EVALUATED, StudyState.FAILED)

STUDY = Lifecycle(
    "study",
    {
        (StudyState.RECEIVING, StudyStep.COMPLETE): StudyState.COMPLETE,
        (StudyState.COMPLETE, StudyStep.ASSESS): StudyState.ASSESSING,
        (StudyState.ASSESSING, StudyStep.ASSESSED): StudyState.ASSESSED,
        (StudyState.ASSESSING, StudyStep.NOT_EVALUATED): StudyState.NOT_EVALUATED,
        (StudyState.ASSESSING, StudyStep.FAIL): StudyState.FAILED,
        (StudyState.COMPLETE, StudyStep.REOPEN): StudyState.RECEIVING,
        (StudyState.ASSESSING, StudyStep.REOPEN): StudyState.RECEIVING,
        **{(state, StudyStep.REOPEN): StudyState.RECEIVING for state in SETTLED},
    },
)
