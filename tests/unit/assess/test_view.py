"""What a header says of view and body part, and how it is weighed against the gate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from triage.assess.view import age_years, opinion, weigh
from triage.domain.finding import NotEvaluated
from triage.domain.header import Header

DX = "1.2.840.10008.5.1.4.1.1.1.1"
PLAIN = Header("1.2", "1.3", "1.4", DX, "1.2.840.10008.1.2.1", modality="DX")


@pytest.mark.parametrize(
    ("changes", "frontal"),
    [
        ({"view_position": "PA"}, True),
        ({"view_position": "p.a."}, True),
        ({"view_position": "AP"}, True),
        ({"view_code": "399348003"}, True),
        ({"patient_position": "AP"}, True),
        ({"view_position": "LL"}, False),
        ({"view_position": "LATERAL"}, False),
        ({"view_code": "399067008"}, False),
        ({"view_position": ""}, None),
        ({"view_position": "OBLIQUE"}, None),
    ],
)
def test_view_of_the_header(changes: dict[str, str], frontal: bool | None) -> None:
    assert opinion(replace(PLAIN, **changes)).frontal is frontal


@pytest.mark.parametrize(
    ("changes", "chest"),
    [
        ({"body_part": "CHEST"}, True),
        ({"body_part": "Thorax PA stehend"}, True),
        ({"body_part": "RIBCAGE"}, True),
        ({"anatomic_region": "51185008"}, True),
        ({"body_part": "HAND"}, False),
        ({"body_part": ""}, None),
    ],
)
def test_body_part_of_the_header(changes: dict[str, str], chest: bool | None) -> None:
    assert opinion(replace(PLAIN, **changes)).chest is chest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modality": "CT"}, NotEvaluated.NOT_CR_DX),
        ({"modality": "OT"}, NotEvaluated.NOT_CR_DX),
        ({"modality": "OT", "body_part": "CHEST"}, None),
        ({"modality": ""}, None),
        ({"species": "Canine"}, NotEvaluated.NOT_CHEST),
        ({"species": "Homo sapiens"}, None),
        ({"quality_control_image": "YES"}, NotEvaluated.SITE_EXCLUDED),
        ({"presentation_intent": "FOR PROCESSING"}, NotEvaluated.FOR_PROCESSING),
        ({"patient_age": "002M"}, NotEvaluated.PEDIATRIC),
        ({"patient_age": "045Y"}, None),
        ({"patient_age": "45"}, None),
    ],
)
def test_what_the_header_alone_decides(changes: dict[str, str], reason: NotEvaluated | None) -> None:
    said = opinion(replace(PLAIN, **changes), minimum_age=1.0)
    assert said.reason is reason
    assert bool(said.sentence) == (reason is not None)


def test_a_modality_is_never_repeated_unless_it_is_a_code() -> None:
    said = opinion(replace(PLAIN, modality="<script>"))
    assert "<" not in said.sentence


def test_a_silent_header_leaves_it_to_the_gate() -> None:
    said = opinion(PLAIN)
    assert weigh(said, 0.6, 0.5).reason is None
    assert weigh(said, 0.4, 0.5).reason is NotEvaluated.NOT_FRONTAL


def test_a_header_that_says_lateral_is_overruled_only_by_a_confident_gate() -> None:
    said = opinion(replace(PLAIN, view_position="LL"))
    assert weigh(said, 0.8, 0.5).reason is NotEvaluated.NOT_FRONTAL
    overruled = weigh(said, 0.995, 0.5)
    assert overruled.reason is None
    assert overruled.disagreement == "header-view"


def test_a_header_that_names_another_part_is_overruled_only_by_a_confident_gate() -> None:
    said = opinion(replace(PLAIN, body_part="ABDOMEN"))
    assert weigh(said, 0.8, 0.5).reason is NotEvaluated.NOT_CHEST
    assert weigh(said, 0.999, 0.5).reason is None


def test_a_header_that_says_pa_does_not_open_the_gate() -> None:
    said = opinion(replace(PLAIN, view_position="PA", body_part="CHEST"))
    refused = weigh(said, 0.2, 0.5)
    assert refused.reason is NotEvaluated.NOT_FRONTAL
    assert refused.disagreement == "pixels-view"


@pytest.mark.parametrize(
    ("text", "years"),
    [("045Y", 45), ("006M", 0.5), ("010D", 10 / 365.25), ("45", None), ("ABC", None), ("", None)],
)
def test_ages(text: str, years: float | None) -> None:
    assert age_years(text) == pytest.approx(years) if years is not None else age_years(text) is None
