"""The sample studies: the same bytes each time, valid objects, judged rightly by the model."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import HTJ2KLossless

from tests.peers import need
from triage.assess import registry
from triage.assess.engine import open_engine
from triage.assess.pixels import read_film
from triage.assess.prepare import KEPT, prepare
from triage.samples import Sample, write
from triage.samples.canvas import Canvas, enlarge, shrink
from triage.samples.disease import Kind
from triage.samples.draw import frontal, patient_of
from triage.samples.encode import jpeg_lossless
from triage.samples.letters import stencil
from triage.samples.plan import STUDIES
from triage.samples.wrap import wrap
from triage.samples.write import draw


@pytest.fixture(scope="module")
def folder(pytestconfig: pytest.Config) -> Path:
    """A folder for the samples of seed 1, kept between runs: other code draws them anew."""
    return pytestconfig.cache.mkdir("samples")


@pytest.fixture(scope="module")
def seen() -> list[tuple[int, int]]:
    """What the progress callback was told."""
    return []


@pytest.fixture(scope="module")
def samples(folder: Path, seen: list[tuple[int, int]]) -> list[Sample]:
    """The samples of seed 1, drawn once for this module."""
    return write(folder, 1, lambda done, total: seen.append((done, total)))


@pytest.fixture(scope="module")
def headers(samples: list[Sample]) -> list[pydicom.Dataset]:
    """Each sample as read back."""
    return [pydicom.dcmread(sample.path) for sample in samples]


def test_progress_counts_every_file_to_the_last(samples: list[Sample], seen: list[tuple[int, int]]) -> None:
    assert seen == sorted(set(seen))
    assert seen[-1] == (len(samples), len(samples))


def test_a_second_call_draws_nothing(folder: Path, samples: list[Sample]) -> None:
    before = {s.path: s.path.stat().st_mtime_ns for s in samples}
    assert write(folder, 1) == samples
    assert {s.path: s.path.stat().st_mtime_ns for s in samples} == before


def test_a_file_cut_short_is_drawn_again_with_the_same_bytes(
    folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    victim = min(samples, key=lambda s: s.path.stat().st_size)
    whole = victim.path.read_bytes()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / victim.path.name).write_bytes(whole[:1000])
    write(copy, 1)
    assert (copy / victim.path.name).read_bytes() == whole


@pytest.mark.parametrize("number", [3, 7, 8, 14])
def test_the_same_seed_gives_the_same_bytes(samples: list[Sample], number: int) -> None:
    plan = STUDIES[number - 1]
    sample = next(s for s in samples if s.path.name.startswith(f"{number:02d}-"))
    assert wrap(draw(plan, 0, 1), plan, 0, 1) == sample.path.read_bytes()


def test_another_seed_gives_other_pictures_and_other_uids() -> None:
    plan = STUDIES[7]
    one, two = (pydicom.dcmread(_stream(wrap(draw(plan, 0, seed), plan, 0, seed))) for seed in (1, 2))
    assert one.StudyInstanceUID != two.StudyInstanceUID
    assert hashlib.sha256(one.PixelData).digest() != hashlib.sha256(two.PixelData).digest()


def test_every_header_says_synthetic(headers: list[pydicom.Dataset]) -> None:
    for header in headers:
        assert str(header.PatientName).startswith("SYNTHETIC^")
        assert header.PatientID.startswith("SYN-")
        assert header.AccessionNumber.startswith("SYN")
        for keyword in ("PatientComments", "ImageComments", "StudyDescription", "InstitutionName"):
            assert "SYNTHETIC" in header.get(keyword)


def test_files_of_a_study_share_its_uids_and_no_two_files_share_theirs(
    samples: list[Sample], headers: list[pydicom.Dataset]
) -> None:
    patients = defaultdict(set)
    for sample, header in zip(samples, headers, strict=True):
        assert header.StudyInstanceUID == sample.study_instance_uid
        assert header.StudyInstanceUID.startswith("2.25.")
        patients[header.StudyInstanceUID].add((header.PatientID, header.AccessionNumber, header.StudyID))
    assert len(patients) == len(STUDIES)
    assert all(len(identity) == 1 for identity in patients.values())
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert len({h.SeriesInstanceUID for h in headers}) == len(headers)


def test_kinds_syntaxes_and_polarities_of_a_real_day_are_there(headers: list[pydicom.Dataset]) -> None:
    assert {h.SOPClassUID.name.split(" ")[0] for h in headers} == {"Digital", "Computed", "Secondary"}
    assert len({h.file_meta.TransferSyntaxUID for h in headers}) >= 7
    assert {h.PhotometricInterpretation for h in headers} == {"MONOCHROME1", "MONOCHROME2"}
    assert {h.BitsStored for h in headers} == {8, 12, 16}
    assert max(h.Rows * h.Columns for h in headers) >= 2000 * 2500


def test_stat_is_said_in_the_request_attributes(
    samples: list[Sample], headers: list[pydicom.Dataset]
) -> None:
    said = [
        any(
            item.get("RequestedProcedurePriority") == "STAT"
            for item in h.get("RequestAttributesSequence", [])
        )
        for h in headers
    ]
    assert said == [s.stat for s in samples]
    assert any(said)


def test_every_picture_decodes_and_uses_its_range(headers: list[pydicom.Dataset]) -> None:
    for header in headers:
        pixels = header.pixel_array
        assert pixels.shape == (header.Rows, header.Columns)
        assert pixels.max() < 1 << header.BitsStored
        assert int(pixels.max()) - int(pixels.min()) > 0.8 * (1 << header.BitsStored)


def test_dciodvfy_finds_no_error(samples: list[Sample], tmp_path: Path) -> None:
    program = shutil.which("dciodvfy")
    need(program, "dciodvfy (apt-get install dicom3tools)")
    assert program is not None
    for sample in samples:
        path = sample.path
        dataset = pydicom.dcmread(path)
        if dataset.file_meta.TransferSyntaxUID == HTJ2KLossless:
            # dicom3tools does not know this syntax: it reads the same object uncompressed.
            dataset.decompress(generate_instance_uid=False)
            path = tmp_path / path.name
            dataset.save_as(path)
        answer = subprocess.run([program, path], capture_output=True, text=True, check=False)
        errors = [line for line in answer.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], sample.path.name


def test_disease_makes_the_drawn_lung_whiter_and_leaves_the_rest() -> None:
    well = patient_of(5, "child", Kind.NORMAL)
    canvas_height = 300
    healthy = frontal(well, Kind.NORMAL, 5, canvas_height)
    for kind in (Kind.CONSOLIDATION, Kind.INTERSTITIAL, Kind.GROUND_GLASS, Kind.EFFUSION, Kind.MASS):
        ill = frontal(well, kind, 5, canvas_height)
        assert (ill - healthy).mean() > 0.002, kind
        assert abs(ill[:30, :30] - healthy[:30, :30]).max() < 0.05, kind


def test_two_takes_of_one_patient_differ_a_little() -> None:
    patient = patient_of(5, "adult-male", Kind.NORMAL)
    one, two = (frontal(patient, Kind.NORMAL, 5, 300, take=take) for take in (0, 1))
    assert 0.001 < abs(one - two).mean() < 0.1


def test_jpeg_lossless_gives_every_pixel_back_and_says_selection_value_1() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    rng = np.random.default_rng(0)
    for bits, shape in ((12, (61, 77)), (8, (3, 200)), (15, (40, 41))):
        samples = rng.integers(0, 1 << bits, shape).astype(np.uint16 if bits > 8 else np.uint8)
        samples[5 % shape[0] :] = samples[0, 0]
        stream = jpeg_lossless(samples, bits)
        assert np.array_equal(imagecodecs.jpegsof3_decode(stream), samples)
        scan = stream.index(b"\xff\xda")
        assert stream[scan + 7] == 1


def test_a_splatted_point_keeps_its_volume() -> None:
    canvas = Canvas(100, 80)
    sheet = canvas.splat(np.array([0.0]), np.array([0.5]), np.array([0.003]))
    assert sheet.sum() / 100**2 == pytest.approx(0.003)


def test_enlarging_then_shrinking_keeps_a_smooth_sheet() -> None:
    canvas = Canvas(60, 50)
    sheet = canvas.noise(np.random.default_rng(1), 0.3)
    back = shrink(enlarge(sheet, 120, 100), 2)
    assert abs(back - sheet).max() < 0.02


def test_a_letter_stands_where_it_is_put() -> None:
    canvas = Canvas(200, 200)
    sheet = stencil(canvas, "L", (0.5, 0.25), 0.02)
    rows, columns = np.nonzero(sheet)
    assert 0.24 < rows.min() / 200 < 0.26
    assert 0.49 < columns.min() / 200 < 0.51
    assert sheet[rows.max(), columns.max()] == 1


def _stream(data: bytes) -> pydicom.filebase.DicomBytesIO:
    return pydicom.filebase.DicomBytesIO(data)


@pytest.fixture(scope="module")
def answers(samples: list[Sample]) -> list[tuple[Sample, float, float]]:
    """Gate probability and probability of any disease that the shipped network gives each frontal sample."""
    model = registry.find(registry.models_dir(), "chest")
    engine = open_engine(model, "torch")
    rows = []
    for sample in (s for s in samples if s.scene == "frontal"):
        logits = engine.infer(prepare(read_film(sample.path).reduced(KEPT), model.size)[None])
        gate, normal = model.scale.gate(logits)[0], model.scale.classes(logits)[0, 0]
        rows.append((sample, float(gate) / model.gate, 1 - float(normal)))
    return rows


def test_the_shipped_model_takes_every_frontal_sample_for_one(
    answers: list[tuple[Sample, float, float]],
) -> None:
    assert [s.path.name for s, gate, _ in answers if gate < 1] == []


def test_the_shipped_model_ranks_the_diseased_samples_first(
    answers: list[tuple[Sample, float, float]],
) -> None:
    ill = [p for s, _, p in answers if s.diseased]
    well = [p for s, _, p in answers if not s.diseased]
    assert min(ill) > max(well)
