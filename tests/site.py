"""A whole site as its users meet it: `triage serve` in a process of its own, reached over its sockets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import tomli_w

from tests.peers import wait_until

ROOT = Path(__file__).resolve().parents[1]


def triage(
    *arguments: object, config: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run one command of triage and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if config:
        environment["TRIAGE_CONFIG"] = str(config)
    return subprocess.run(
        [sys.executable, "-m", "triage", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=options.pop("timeout", 180),
        check=False,
        **options,
    )


class Site:
    """A running service with free ports; `start` returns when it listens."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.config = folder / "triage.toml"
        self.log = folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "site": {"name": "acceptance", "data_dir": str(folder / "data")},
            "listener": {"port": 0},
            "web": {"port": 0},
            "study": {"quiet_seconds": 1},
            "spool": {"low_water_mb": 50},
        }
        for section, values in changes.items():
            settings[section] = (
                {**settings.get(section, {}), **values} if isinstance(values, dict) else values
            )
        self.config.write_text(tomli_w.dumps(settings))
        self.process: subprocess.Popen[str] | None = None
        self.dicom: tuple[str, int] = ("", 0)
        self.url = ""
        self.token = ""

    def start(self) -> Site:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "triage", "serve", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        assert self.process.stdout
        for line in self.process.stdout:
            if found := re.match(r"DICOM\s+\S+@(\S+):(\d+)", line):
                self.dicom = found[1], int(found[2])
            if found := re.match(r"Web\s+(\S+)", line):
                self.url = found[1]
                break
            if self.dicom[1] and self.url:
                break
        if not self.url:
            raise AssertionError(f"the service did not start: {self.log.read_text()[-2000:]}")
        made = triage("token", "create", "acceptance", "--role", "administrator", config=self.config)
        assert made.returncode == 0, made.stderr
        self.token = made.stdout.split()[-1]
        return self

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            if self.process.stdout:
                self.process.stdout.close()

    def get(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(
            f"{self.url}{path}",
            params=parameters,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def worklist(self, **parameters: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self.get(
                "/api/v1/worklist", limit=200, **({"cursor": cursor} if cursor else {}), **parameters
            )
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def settled(self, studies: set[str]) -> bool:
        """Whether every one of these studies has its answer."""
        done = {"assessed", "not_evaluated", "failed"}
        known = {i["study_instance_uid"]: i["assessment"]["state"] for i in self.worklist(status="all")}
        return all(known.get(uid) in done for uid in studies)

    def wait_settled(self, studies: set[str], seconds: float = 180) -> None:
        wait_until(lambda: self.settled(studies), seconds, 0.3)


def settings_of(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
