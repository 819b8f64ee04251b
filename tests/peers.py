"""Real peers for tests: an Orthanc and the tools of dcmtk and dicom3tools, found or skipped with a reason.

With `CI=true` a missing peer is a failure. Use the fixtures `orthanc` (running, empty), `late_orthanc`
(its ports are known, it is not started yet) and `dcmtk` (`dcmtk.run("storescu", ...)`).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

#: A virtual environment with pynetdicom shadows dcmtk's programs, so these folders are asked first.
_SYSTEM_FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin")
_READY_SECONDS = 30.0
#: Where no Orthanc is installed but Docker runs. The image is named here and nowhere else.
ORTHANC_IMAGE = "jodogne/orthanc:1.12.1"
_PULL_SECONDS = 300.0


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_tool(name: str) -> str | None:
    """Return the absolute path of a system program, never of a script in the virtual environment."""
    for folder in _SYSTEM_FOLDERS:
        if os.access(Path(folder) / name, os.X_OK):
            return str(Path(folder) / name)
    return shutil.which(name)


def docker_runs() -> bool:
    """Return whether containers can be started here."""
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    )


def need(found: object, what: str) -> None:
    """Skip the test with a reason, or fail it where `CI=true`, unless `found` is true."""
    if found:
        return
    reason = f"{what} is not installed here."
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def wait_until(condition: Any, seconds: float = _READY_SECONDS, every: float = 0.02) -> Any:
    """Return the first true value of `condition()`; raise TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            msg = f"Nothing true came of {condition} within {seconds} s."
            raise TimeoutError(msg)
        time.sleep(every)


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


class Dcmtk:
    """The command-line tools of dcmtk and dicom3tools."""

    def path(self, name: str) -> str:
        """Return the absolute path of a tool, or skip the test."""
        found = find_tool(name)
        need(found, f"{name} (Debian package dcmtk or dicom3tools)")
        return str(found)

    def run(self, name: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a tool to its end; nothing is raised for a bad exit code."""
        command = [self.path(name), *(str(argument) for argument in arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )

    @contextmanager
    def storescp(self, folder: Path, *options: object, port: int = 0) -> Iterator[int]:
        """Run dcmtk's storescp writing into `folder`; gives its port."""
        port = port or free_port()
        command = [self.path("storescp"), "-od", str(folder), *(str(option) for option in options), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(port))
            yield port
        finally:
            process.kill()
            process.wait()


#: What differs in a container: its own folders and ports, and we come from outside.
_IN_CONTAINER: dict[str, object] = {
    "StorageDirectory": "/var/lib/orthanc/db",
    "IndexDirectory": "/var/lib/orthanc/db",
    "HttpPort": 8042,
    "DicomPort": 4242,
    "RemoteAccessAllowed": True,
}


class Orthanc:
    """One Orthanc: `host`, `dicom_port`, `ae_title`, `url`; its REST interface by `get`."""

    def __init__(self, folder: Path, *, nodelay: bool = True) -> None:
        """Choose the ports; nothing runs before `start`."""
        self.folder = folder
        self.host = "127.0.0.1"
        self.ae_title = "ORTHANC"
        self.dicom_port = free_port()
        self.http_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._nodelay = nodelay
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def destination(self) -> str:
        """The form that the command line takes: AE@HOST:PORT."""
        return f"{self.ae_title}@{self.host}:{self.dicom_port}"

    def start(self, **settings: object) -> Orthanc:
        """Start it and return once it answers over HTTP and DICOM."""
        program = find_tool("Orthanc")
        need(program or docker_runs(), "Orthanc (Debian package orthanc, or Docker)")
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "orthanc.json"
        inside = {} if program else _IN_CONTAINER
        configuration.write_text(json.dumps(self._settings() | inside | settings))
        command = [program, str(configuration)] if program else self._container(configuration)
        environment = os.environ | ({"TCP_NODELAY": "1"} if self._nodelay else {})
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder
            )
        wait_until(self._ready, _READY_SECONDS if program else _PULL_SECONDS)
        return self

    def _container(self, configuration: Path) -> list[str]:
        """Return the command that runs the image in the foreground, on the same ports of the loopback."""
        ports = ((self.http_port, 8042), (self.dicom_port, 4242))
        published = [word for outer, inner in ports for word in ("-p", f"127.0.0.1:{outer}:{inner}")]
        mounted = ["-v", f"{configuration}:/etc/orthanc/orthanc.json:ro"]
        nodelay = ["-e", "TCP_NODELAY=1"] if self._nodelay else []
        return ["docker", "run", "--rm", "--init", *published, *mounted, *nodelay, ORTHANC_IMAGE]

    def _settings(self) -> dict[str, object]:
        return {
            "Name": "triage tests",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [],
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": self.ae_title,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "MaximumPduLength": 131072,
            "DicomThreadsCount": 20,
            "StableAge": 1,
        }

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = (self.folder / "orthanc.log").read_text(errors="replace")
            msg = f"Orthanc ended at once: {log[-800:]}"
            raise RuntimeError(msg)
        try:
            return httpx.get(f"{self.url}/system", timeout=2).is_success and listens(self.dicom_port)
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End the process; the storage stays."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def get(self, path: str) -> Any:
        """Return the JSON at a path of the REST interface."""
        return httpx.get(f"{self.url}{path}", timeout=30).raise_for_status().json()

    def post(self, path: str, content: object) -> Any:
        """Post JSON, or bytes (a DICOM file to /instances), and return the JSON that comes back."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return httpx.post(f"{self.url}{path}", content=body, timeout=60).raise_for_status().json()

    def instances(self, study_uid: str) -> list[dict[str, Any]]:
        """Return the instances of a study, each with ID and MainDicomTags; none when it is unknown."""
        found = self.post("/tools/lookup", study_uid.encode())
        studies = [item["ID"] for item in found if item["Type"] == "Study"]
        return [instance for study in studies for instance in self.get(f"/studies/{study}/instances")]

    def file(self, instance_id: str) -> bytes:
        """Return the DICOM file of an instance as Orthanc keeps it."""
        return httpx.get(f"{self.url}/instances/{instance_id}/file", timeout=30).raise_for_status().content

    def empty(self) -> None:
        """Delete every patient."""
        for patient in self.get("/patients"):
            httpx.delete(f"{self.url}/patients/{patient}", timeout=60).raise_for_status()


class GivenOrthanc(Orthanc):
    """The Orthanc of TRIAGE_ORTHANC_URL: neither started, nor stopped, nor emptied by tests."""

    def __init__(self, url: str) -> None:
        """Ask it for its AE title and DICOM port."""
        self.url = url.rstrip("/")
        self.host = urlsplit(url).hostname or "127.0.0.1"
        system = self.get("/system")
        self.ae_title = system["DicomAet"]
        self.dicom_port = system["DicomPort"]

    def empty(self) -> None:
        """Leave what is there: it is not ours."""

    def stop(self) -> None:
        """Leave it running."""


@pytest.fixture(scope="session")
def orthanc_server() -> Iterator[Orthanc]:
    """One Orthanc for all tests of a process."""
    given = os.environ.get("TRIAGE_ORTHANC_URL")
    if given:
        yield GivenOrthanc(given)
        return
    with tempfile.TemporaryDirectory(prefix="triage-orthanc-") as folder:
        server = Orthanc(Path(folder))
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture
def orthanc(orthanc_server: Orthanc) -> Orthanc:
    """A running Orthanc without a patient in it (unless it was given by TRIAGE_ORTHANC_URL)."""
    orthanc_server.empty()
    return orthanc_server


@pytest.fixture
def late_orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc whose ports are known and that the test starts when it wants."""
    need(find_tool("Orthanc") or docker_runs(), "Orthanc (Debian package orthanc, or Docker)")
    server = Orthanc(tmp_path / "orthanc")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def dcmtk() -> Dcmtk:
    """The command-line tools of dcmtk and dicom3tools, each skipped when it is missing."""
    return Dcmtk()
