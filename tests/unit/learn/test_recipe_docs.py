"""Every key of a recipe stands in docs/recipes.md, with its default."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from triage.learn import recipe
from triage.learn.recipe import Recipe

_TEXT = (Path(__file__).resolve().parents[3] / "docs" / "recipes.md").read_text()
_SECTIONS = {kind.__name__: kind for kind in recipe._Section.__subclasses__()}


def _table(section: str) -> dict[str, str]:
    """Return the defaults by key, as the table of a section tells them."""
    part = _TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", part, re.MULTILINE))


def _default(section: type[BaseModel], key: str) -> str:
    field = section.model_fields[key]
    if field.is_required():
        return "-"
    if isinstance(field.default, BaseModel):
        return "its own"
    if field.default is None:
        return "none" if section is Recipe else "the recipe's"
    return f"`{json.dumps(field.default)}`"


@pytest.mark.parametrize("section", _SECTIONS)
def test_every_key_of_a_section_is_explained_with_its_default(section):
    kind = _SECTIONS[section]
    assert _table(section) == {key: _default(kind, key) for key in kind.model_fields}


def test_the_recipe_that_is_shown_can_be_read():
    (shown,) = re.findall(r"```toml\n(.*?)```", _TEXT, re.DOTALL)
    assert Recipe.model_validate(tomllib.loads(shown)).name == "mine"
