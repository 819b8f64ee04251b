"""The documents keep up with the code: every setting, command, metric and error has its line."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

import triage
from tests.keys import keys
from triage import observe, settings
from triage.app import Service
from triage.cli.main import app
from triage.domain.policy import Policy
from triage.errors import TriageError
from triage.web import problems

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def _default(field):
    if field.is_required():
        return "required"
    return "unset" if field.default is None else field.default


def _commands(command, prefix=""):
    for name, sub in getattr(command, "commands", {}).items():
        yield from _commands(sub, f"{prefix}{name} ")
    if not hasattr(command, "commands"):
        yield prefix.strip(), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _errors(kind):
    yield kind.code
    for sub in kind.__subclasses__():
        yield from _errors(sub)


def _import_everything():
    for module in pkgutil.walk_packages(triage.__path__, "triage."):
        if module.name not in {"triage.__main__", "triage.assess.decoder_child"}:
            importlib.import_module(module.name)


@pytest.mark.parametrize("key", sorted(key for key, _ in keys(settings.Settings)))
def test_every_setting_is_explained(key):
    assert f"`{key}`" in REFERENCE


@pytest.mark.parametrize(
    ("key", "default"), sorted(((key, _default(field)) for key, field in keys(settings.Settings)), key=str)
)
def test_every_default_is_the_one_of_the_code(key, default):
    (said,) = re.findall(rf"^\| `{re.escape(key)}` \| ([^|]+) \|", REFERENCE, re.MULTILINE)
    if said.startswith("`"):
        said = tomllib.loads(f"value = {said.strip('`')}")["value"]
    said = tuple(said) if isinstance(said, list) else said
    assert (Path(said) if isinstance(default, Path) else said) == default


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_each_of_its_options_is_explained(name):
    [line] = re.findall(rf"^\| `triage {name}(?: [^`]*)?` \| (.+) \|$", REFERENCE, re.MULTILINE)
    options = {word for part in COMMANDS[name].params for word in part.opts if word.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)`", line.partition("Options:")[2])) == options - {"--help"}


def test_every_problem_type_is_explained():
    described = (ROOT / "docs" / "api.md").read_text()
    types = {*problems.STATUS_OF_CODE, *(code for code, _, _ in problems._TITLES.values())}
    assert not {name for name in types if f"`{name}`" not in described}


def test_every_error_is_explained():
    _import_everything()
    missing = {code for code in _errors(TriageError) if f"`{code}`" not in REFERENCE}
    assert not missing


def test_every_metric_is_explained(db, tmp_path):
    service = Service(settings.Settings(site={"data_dir": tmp_path}), Policy(), roles=frozenset())
    live = service._live_metrics()
    text = observe.metrics(db, lambda: datetime(2026, 3, 1, tzinfo=UTC), live)().decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert names > set(live)
    assert not {name for name in names if f"`{name}`" not in REFERENCE}


def test_every_link_of_the_documents_leads_somewhere():
    broken = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert not broken
