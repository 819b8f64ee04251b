"""From the last byte of an uncompressed 10 MB DX to its rank visible over REST, beside the bare chain.

The bare chain is the same work without a service: write and fsync the file, read and prepare the film,
infer, commit a row and read the list on another connection. Both run in turn, film by film, in one run.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from tests.site import Site, settings_of
from triage import samples
from triage.assess.header import header_of
from triage.assess.opening import open_classifier
from triage.assess.source import open_source
from triage.domain.policy import Policy
from triage.store import entries, migrations, studies
from triage.store.database import Database

BAR_MILLISECONDS = 300.0
BAR_RATIO = 3.0


def _film(folder: Path) -> FileDataset:
    """Return a synthetic DX of 10 MB, uncompressed."""
    plain = [s.path for s in samples.write(folder) if s.scene == "frontal"]
    for path in plain:
        film = dcmread(path)
        if film.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.1":
            break
    if film.file_meta.TransferSyntaxUID.is_compressed:
        film.decompress()
    pixels = film.pixel_array
    film.PixelData = np.ascontiguousarray(pixels).tobytes()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return film


def _renamed(film: FileDataset, path: Path) -> FileDataset:
    film.StudyInstanceUID, film.SeriesInstanceUID, film.SOPInstanceUID = (generate_uid() for _ in range(3))
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
    film.PatientID = film.AccessionNumber = f"BENCH{film.SOPInstanceUID[-10:]}"
    film.save_as(path)
    return film


class _Bare:
    """The chain without a service, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.classifier = open_classifier(cache=folder / "engines")
        self.db = Database(f"sqlite:///{folder / 'bare.db'}")
        migrations.upgrade(self.db)

    def run(self, source: Path, film: FileDataset) -> float:
        content = source.read_bytes()
        begin = time.perf_counter()
        path = self.folder / "film.dcm"
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.classifier.judge_file(path, film.SOPInstanceUID)
        now = datetime.now(UTC)
        header = header_of(open_source(path))
        with self.db.write() as session:
            head = studies.create_head(session, header, sender="BENCH", now=now)
            assert head is not None
            entries.place_new(session, head, now, Policy(), now, "bench")
        with self.db.read() as session:
            entries.waiting(session, 50)
        return (time.perf_counter() - begin) * 1e3


class _Served:
    """The same through C-STORE and REST."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder).start()
        host, port = self.site.dicom
        sender = AE("BENCH")
        sender.maximum_pdu_size = 1 << 20
        sender.add_requested_context("1.2.840.10008.5.1.4.1.1.1.1", ExplicitVRLittleEndian)
        self.association = sender.associate(host, port, ae_title="TRIAGE", max_pdu=1 << 20)
        if not self.association.is_established:
            raise SystemExit("The listener did not accept the association.")
        raw = self.association.dul.socket.socket
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client = httpx.Client(
            base_url=self.site.url, headers={"Authorization": f"Bearer {self.site.token}"}
        )

    def run(self, film: FileDataset) -> tuple[float, float]:
        """Return milliseconds from the last byte to the visible rank, and to the acknowledgement."""
        sent: list[float] = []
        raw = self.association.dul.socket.socket
        original = self.association.dul.socket.send

        def send(data: bytes) -> None:
            original(data)
            sent.append(time.perf_counter())

        self.association.dul.socket.send = send  # type: ignore[method-assign]
        assert raw is not None
        status = self.association.send_c_store(film)
        answered = time.perf_counter()
        self.association.dul.socket.send = original  # type: ignore[method-assign]
        assert status.Status == 0, hex(status.Status)
        last = sent[-1]
        path = f"/api/v1/studies/{film.StudyInstanceUID}"
        deadline = time.monotonic() + 60
        while True:
            answer = self.client.get(path)
            seen = time.perf_counter()
            # The film's own answer: that of a study whose films are negative so far waits for its completion.
            if answer.status_code == 200 and answer.json()["instances"][0]["outcome"] is not None:
                return (seen - last) * 1e3, (answered - last) * 1e3
            if time.monotonic() > deadline:
                raise SystemExit("The film was not judged within a minute.")

    def stop(self) -> None:
        self.association.release()
        self.client.close()
        self.site.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--films", type=int, default=30)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    count = 8 if arguments.quick else arguments.films
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = _film(folder / "samples")
        served, bare = _Served(folder / "site"), _Bare(folder)
        assert settings_of(served.site.config)
        size, engine = len(film.PixelData) / 1e6, bare.classifier.engine.name
        print(f"one DX of {size:.1f} MB, {count} films, engine {engine}")
        rank, answer, chain = [], [], []
        for number in range(count + 2):
            path = folder / "next.dcm"
            _renamed(film, path)
            shown, acknowledged = served.run(film)
            floor = bare.run(path, film)
            if number >= 2:
                rank.append(shown)
                answer.append(acknowledged)
                chain.append(floor)
        served.stop()
    middle, floor = statistics.median(rank), statistics.median(chain)
    late = statistics.quantiles(rank, n=20)[-1]
    print(f"bare chain                    p50 {floor:7.1f} ms")
    print(f"last byte -> acknowledged     p50 {statistics.median(answer):7.1f} ms")
    print(f"last byte -> rank over REST   p50 {middle:7.1f} ms   p95 {late:7.1f} ms")
    print(f"bar: p50 <= {BAR_MILLISECONDS:.0f} ms: {'holds' if middle <= BAR_MILLISECONDS else 'MISSED'}")
    ratio = middle / floor
    verdict = "holds" if ratio <= BAR_RATIO else "MISSED"
    print(f"bar: p50 <= {BAR_RATIO:.1f} x bare chain: {ratio:.2f} x, {verdict}")


if __name__ == "__main__":
    main()
