"""From logits to probabilities, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models import write_model
from triage.assess.registry import load
from triage.assess.scale import Scale
from triage.errors import ModelRefused


def test_the_temperature_divides_and_the_shift_moves_the_diseases_among_themselves():
    logits = np.array([[2 * np.log(4), 0, 0, 2 * np.log(2), 0, 0, 2 * np.log(9)]], np.float32)
    scale = Scale(temperature=2.0, gate_temperature=2.0, shift=(0, 0, float(np.log(3)), 0, 0))
    # 4 against 1 + 1 + 2 + 1 + 1; then the 2 counts three times among the diseased
    assert scale.classes(logits)[0] == pytest.approx([0.4, 0.06, 0.06, 0.36, 0.06, 0.06])
    assert scale.gate(logits) == pytest.approx([0.9])


def test_the_shift_of_model_toml_has_a_value_for_each_disease(tmp_path: Path):
    folder = write_model(tmp_path)
    card = folder / "model.toml"
    assert load(folder).scale == Scale(0.8, 1.0, (0.5, -0.25, 0, 0, 0.125))
    card.write_text(card.read_text().replace("0.125]", "0.125, 1]"))
    with pytest.raises(ModelRefused, match="the shift has 6 values, not one for each of 5 diseases"):
        load(folder)
    card.write_text(card.read_text().replace("shift = ", "shifts = "))
    with pytest.raises(ModelRefused, match=r"model\.toml"):
        load(folder)
