"""`triage simulate`: what a policy would do in a reading room, beside first-in-first-out."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from triage.cli.options import Config, Json, print_json

if TYPE_CHECKING:
    from triage.simulate.compare import Row, Waits
    from triage.simulate.scenario import Scenario

_COLUMNS = ("mean", "median", "p95", "longest", "late")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    file: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="TOML file, as config/scenarios/ has them.")
    ],
    policy_file: Annotated[
        Path | None, typer.Option("--policy", help="Policy to try; else the configuration's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed is another fortnight.")] = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Simulate the reading room of SCENARIO and print how long each class waits; nothing is changed."""
    from triage import settings
    from triage.simulate import compare

    scenario = read(file)
    policy = (
        settings.read_policy(policy_file)
        if policy_file
        else settings.load_policy(settings.load(config), config)
    )
    rows = compare.compare(scenario, policy, seed)
    if as_json:
        print_json(compare.to_mapping(scenario, policy, seed, rows))
        return
    _print(f"{scenario.name}: {scenario.days} days, seed {seed}, policy {policy.version}", rows)


def read(file: Path) -> Scenario:
    """Return the scenario of a TOML file, or raise one sentence that names the file."""
    from triage.errors import ConfigurationError
    from triage.simulate.scenario import Scenario

    try:
        return Scenario.from_mapping(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        msg = f"The scenario {file} can't be read: {error.strerror}."
        raise ConfigurationError(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"The scenario {file} is not valid TOML: {error}."
        raise ConfigurationError(msg) from None


def _print(title: str, rows: Sequence[Row]) -> None:
    print(title)
    print("minutes of waiting: this policy / first in, first out")
    wide = max(len(row.name) for row in rows)
    print(f"{'class':{wide}} {'studies':>8}" + "".join(f"{name:>15}" for name in (*_COLUMNS, "never read")))
    for row in rows:
        pairs = zip(_cells(row.policy), _cells(row.fifo), strict=True)
        cells = "".join(f"{f'{mine} / {theirs}':>15}" for mine, theirs in pairs)
        print(f"{row.name:{wide}} {row.count:>8}{cells}")


def _cells(waits: Waits) -> list[str]:
    times = ("-" if v is None else f"{v:.0f}" for v in (waits.mean, waits.median, waits.p95, waits.longest))
    return [*times, f"{waits.late:.0%}", str(waits.left)]
