"""The plain sentences of a report. They flag, they never judge, and they never say 'normal'."""

from __future__ import annotations

from triage import RESEARCH_USE
from triage.domain.assessment import StudyConclusion
from triage.domain.finding import REASON_PHRASES, WORDS, FindingResult, FindingState, Outcome


def conclusion(said: StudyConclusion) -> str:
    """Return what the report concludes, in a sentence or two, and the research-use line."""
    unseen = f" A film was not evaluated: {REASON_PHRASES[said.unseen]}." if said.unseen else ""
    return f"{_outcome(said)}{unseen} {RESEARCH_USE}"


def finding_lines(said: StudyConclusion) -> list[str]:
    """Return one line for each finding that was looked for; none when nothing was evaluated."""
    if said.film is None or said.outcome is Outcome.NOT_EVALUATED:
        return []
    return [
        f"Appearance resembling {WORDS[f.finding]}: {f.state.value} (probability {f.probability:.2f})."
        for f in said.film.findings
    ]


def _outcome(said: StudyConclusion) -> str:
    if said.reason is not None:
        return f"Not evaluated: {REASON_PHRASES[said.reason]}. This says nothing about what the films show."
    findings = said.film.findings if said.film else ()
    if said.outcome is Outcome.POSITIVE:
        return f"Flagged for earlier reading: {_named(findings, FindingState.PRESENT)}."
    if said.outcome is Outcome.UNDETERMINED:
        return f"Undetermined: {_named(findings, FindingState.UNDETERMINED)}, neither flagged nor excluded."
    return "Evaluated: no finding reached its threshold. This does not mean that the films are normal."


def _named(findings: tuple[FindingResult, ...], state: FindingState) -> str:
    named = sorted((f for f in findings if f.state is state), key=lambda f: -f.probability)
    if not named:
        return "appearance resembling disease without a single finding standing out"
    words = ", ".join(f"{WORDS[f.finding]} (probability {f.probability:.2f})" for f in named)
    return f"appearance resembling {words}"
