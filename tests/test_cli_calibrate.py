"""``nion-distortion calibrate`` and ``correct --calibration``: learnt here, applied there."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from calibration_cases import tiny_model
from model_cases import every_pixel, without_affine
from rsciio import hspy
from strategies import full_settings

from nion_distortion.calibrations import CalibrationStore
from nion_distortion.cli import calibrate, main
from nion_distortion.cli.summary import fold_lines
from nion_distortion.correction import SIGN_CONVENTION, correct_frame
from nion_distortion.files import open_spectrum_image, read_frames, spectra, write_field
from nion_distortion.frame import ScanSettings
from nion_distortion.options import KnownCrystal, Options
from nion_distortion.stack import CalibrationProgress
from simulator.detector import Detector
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors, strong_flyback
from simulator.specimen import make_specimen

SETTINGS = ScanSettings(
    shape_px=(192, 192), field_of_view_nm=6.0, dwell_time_us=1.0, flyback_time_us=30.0
)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Write five simulated frames; the second shows nothing."""
    microscope = Microscope(
        make_specimen("sto_001", rotation_rad=0.05),
        errors=strong_flyback(SETTINGS, sign=1, seed=2),
        detector=Detector(counts_at_peak=100.0),
    )
    images = [microscope.shot(SETTINGS, k).frame.image for k in range(5)]
    images[1] = np.full_like(images[1], 7.0)
    return save(tmp_path / "sto.npy", np.stack(images), SETTINGS)


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    store = CalibrationStore(tmp_path / "store.sqlite")
    store.save(tiny_model(), time_s=1e9, sample="SrTiO3")
    return store


def save(path: Path, array: npt.NDArray[Any], settings: ScanSettings | None) -> Path:
    np.save(path, array)
    if settings is not None:
        path.with_suffix(".json").write_text(json.dumps(asdict(settings)))
    return path


def spectrum_image(*trailing: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return rng.uniform(1.0, 2.0, (*full_settings().shape_px, *trailing)).astype(np.float32)


def command(tmp_path: Path, *words: str) -> int:
    where = ["--store", str(tmp_path / "store.sqlite"), "--out", str(tmp_path / "out")]
    return main([*words, *where])


def numbers_in(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_a_stack_becomes_a_calibration_that_corrects_what_has_no_lattice(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--crystal", "SrTiO3 [001]", "--sample", "STO", "--note", "test", "--stop-pm", "0.01"]
    assert command(tmp_path, "calibrate", str(stack), *words) == 0
    said = capsys.readouterr().out
    (one,) = CalibrationStore(tmp_path / "store.sqlite").list()
    assert (one.sample, one.note, one.frames, one.reference) == ("STO", "test", 4, "known crystal")
    assert f"Calibration {one.calibration_id}: 4 frames used, 0 flagged, 1 unusable." in said
    assert "Unusable: frame 2: " in said
    reached = f"{one.field_error_pm:.2f} pm is reached with 4 frames"
    assert f"Not reached: a predicted error below 0.01 pm was asked for, and {reached}." in said
    assert f"expected to be {one.predicted_error_pm:.2f} pm off (rms, predicted" in said
    numbers = numbers_in(tmp_path / "out")
    assert (numbers["stop_pm"], reached in numbers["shortfall"]) == (0.01, True)
    scale = numbers["scale"]
    known = CalibrationStore(tmp_path / "store.sqlite").get(one.calibration_id)
    coils = known.model.coils
    assert coils is not None
    for axis, error, std in zip(("slow", "fast"), coils.scale, coils.scale_std, strict=True):
        assert scale[f"scale_error_{axis}_percent"] == pytest.approx(100 * error)
        assert scale[f"scale_error_{axis}_std_percent"] == pytest.approx(100 * std)
        assert scale[f"scanned_pixel_{axis}_nm"] == pytest.approx(6 / 192 * (1 - error))
    assert re.search(r"nominal 0.03125 nm, as scanned 0\.03\d+ \+- 0\.0+\d+ nm x 0\.03", said)
    empty = save(tmp_path / "empty.npy", np.ones((192, 192)), SETTINGS)
    assert command(tmp_path, "correct", str(empty), "--calibration", "auto") == 0
    assert one.calibration_id in capsys.readouterr().out
    (stored,) = hspy.file_reader(str(tmp_path / "out/empty_corrected_0000.hspy"))
    mine = stored["metadata"]["nion_distortion"]
    check_record(mine["provenance"]["correction"], one.calibration_id, tmp_path)
    field = known.model.stationary_field()
    np.testing.assert_array_equal(mine["displacement_px"], field.displacement_px)
    expected = np.hypot(field.std_px, field.unremoved_std_px)
    np.testing.assert_allclose(mine["std_px"], expected, rtol=1e-6)


def test_a_frame_that_is_not_finite_costs_neither_a_calibration_nor_a_correction(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.load(stack)
    images[3, 5, 6] = np.inf
    save(stack, images, SETTINGS)
    assert command(tmp_path, "calibrate", str(stack)) == 0
    assert "Unusable: frame 4: image must be finite, but 1 of its pix" in capsys.readouterr().out
    assert command(tmp_path, "correct", str(stack), "--calibration", "auto") == 0
    said = capsys.readouterr().out
    assert "Frame 3 could not be measured: frame has pixels that are not finite" in said
    assert len(list((tmp_path / "out").glob("sto_corrected_*.hspy"))) == 4


LAGS = ScanErrors(line_flyback_nm=(0.0, 0.12), line_flyback_tau_us=60.0, smooth_nm=0.03)


def lags(flyback_us: float, index: int, errors: ScanErrors = LAGS) -> Shot:
    settings = ScanSettings(
        shape_px=(160, 160), field_of_view_nm=5.0, dwell_time_us=1.0, flyback_time_us=flyback_us
    )
    specimen = make_specimen("sto_001", rotation_rad=0.1)
    return Microscope(specimen, errors, Detector(counts_at_peak=100.0)).shot(settings, index)


def lagging(path: Path, flyback_us: float, errors: ScanErrors = LAGS) -> Path:
    """Write three frames of a beam that lags behind after a short fly-back."""
    frames = [lags(flyback_us, index, errors).frame for index in range(3)]
    return save(path, np.stack([one.image for one in frames]), frames[0].settings)


@pytest.mark.parametrize(
    ("option", "reference", "sentence"),
    [
        ("--fourier", "Fourier filtered", "what is smoother than its filter stays"),
        ("--average", "stack average", "what all frames share stays"),
    ],
)
def test_what_a_reference_leaves_in_the_picture_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, reference: str, sentence: str
) -> None:
    file = lagging(tmp_path / "sto.npy", 120.0)
    assert command(tmp_path, "calibrate", str(file), option) == 0
    assert sentence in capsys.readouterr().out
    (one,) = CalibrationStore(tmp_path / "store.sqlite").list()
    assert (one.reference, one.frames) == (reference, 3)
    assert sentence in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_a_fourier_filtered_image_is_refused_beyond_half_a_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strong = ScanErrors(line_flyback_nm=(0.0, 0.4 * np.exp(4.0)), line_flyback_tau_us=30.0)
    file = lagging(tmp_path / "strong.npy", 120.0, strong)
    assert command(tmp_path, "calibrate", str(file), "--fourier") == 2
    assert "counts as undistorted only below half a cell (" in capsys.readouterr().err
    assert not CalibrationStore(tmp_path / "store.sqlite").list()


def test_a_scan_is_compared_with_one_at_long_flyback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "calibrate", str(lagging(tmp_path / "long.npy", 120.0))) == 0
    (one,) = CalibrationStore(tmp_path / "store.sqlite").list()
    short = str(lagging(tmp_path / "short.npy", 10.0))
    capsys.readouterr()
    words = ["--reference-calibration", one.calibration_id[:4]]
    assert command(tmp_path, "calibrate", short, *words) == 0
    said = capsys.readouterr().out
    numbers = numbers_in(tmp_path / "out")
    assert f"The scan of calibration {one.calibration_id} counts as undistorted" in said
    assert "was not kept" in said
    assert len(CalibrationStore(tmp_path / "store.sqlite").list()) == 1
    assert numbers["reference_calibration"] == one.calibration_id
    places = every_pixel(lags(10.0, 0).frame.settings)
    long, brief = (lags(flyback_us, 0).truth.distortion_px(places) for flyback_us in (120.0, 10.0))
    true_pm = 31.25 * np.sqrt((without_affine(brief - long, places) ** 2).sum(axis=1).mean())
    assert numbers["difference_pm"]["value"] == pytest.approx(true_pm, rel=0.25)
    assert true_pm > 3 * numbers["field_error_pm"]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Both scans and their difference" in page
    assert [name for name in numbers["files"] if name.endswith(".png")]


def test_a_reference_that_does_not_fit_is_one_sentence(
    store: CalibrationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(save(tmp_path / "new.npy", np.ones((2, 192, 192), np.float32), SETTINGS))
    name = store.list()[0].calibration_id
    assert command(tmp_path, "calibrate", file, "--reference-calibration", name) == 2
    assert "differ from the reference field's in shape_px, " in capsys.readouterr().err
    assert command(tmp_path, "calibrate", file, "--reference-calibration", "zzzz") == 2
    assert "zzzz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command(tmp_path, "calibrate", file, "--fourier", "--reference-calibration", name)
    assert "not allowed with argument --fourier" in capsys.readouterr().err


def test_where_the_scan_turns_back_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model()
    steep = replace(
        model,
        known=replace(model.known, vector=10.0 * model.known.vector),
        stationary=replace(model.stationary, mean=10.0 * model.stationary.mean),
        distortion_px=model.basis.on_pixels(10.0 * model.stationary.mean),
    )
    CalibrationStore(tmp_path / "store.sqlite").save(steep, time_s=0.0)
    folded = steep.stationary_field().folded
    assert 0 < folded < np.count_nonzero(~steep.stationary_field().valid)
    file = save(tmp_path / "one.npy", np.ones(full_settings().shape_px), full_settings())
    assert command(tmp_path, "correct", str(file), "--calibration", "auto") == 0
    said = f"The scan turns back on itself: {folded} pixels of the corrected picture, whose places"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert numbers_in(tmp_path / "out")["frames"][0]["folded"] == folded


def test_what_frames_were_used_for_and_that_a_scan_had_not_settled_is_said() -> None:
    model = replace(tiny_model(), frames=60, unsettled="the distortion still changed")
    numbers = calibrate._of_frames(model, CalibrationProgress(frames=60))
    said = calibrate._frame_lines("STO", numbers)
    assert said[0] == "STO: 60 frames used, 0 flagged, 0 unusable."
    assert said[1] == f"{calibrate.LEARNT}."
    assert said[-1] == "Not settled: the distortion still changed."
    assert numbers["unsettled"] == model.unsettled


def test_folds_of_several_frames_are_one_sentence() -> None:
    frames: list[dict[str, Any]] = [{"folded": one, "crossed": 0} for one in (3, 0, None, 8)]
    (said,) = fold_lines(frames)
    assert said.startswith("The scan turns back on itself in 2 of 4 frames: up to 8 pixels")
    assert fold_lines([{"folded": 0, "crossed": 0}]) == []
    (said,) = fold_lines([{"folded": 0, "crossed": 5}])
    assert said.startswith("Lines of the scan overtake each other: 5 pixels")


def check_record(record: Any, calibration_id: str, tmp_path: Path) -> None:
    assert record["kind"] == "stationary"
    assert record["calibration"]["id"] == calibration_id
    shown = numbers_in(tmp_path / "out")["frames"][0]
    assert record["calibration"]["predicted_error_pm"] == shown["corrected_pm"]["value"]
    assert shown["columns"] is None
    assert record["calibration"]["scale"]["nominal_pixel_size_nm"] == 6 / 192


def test_new_settings_begin_with_what_the_device_has_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, seen = CalibrationStore(tmp_path / "store.sqlite"), []
    taught = replace(full_settings(), device_id="scan 1")
    store.save(replace(tiny_model(), settings=taught), time_s=0.0)

    def _calibrate(_: object, *, options: Options, **_others: object) -> None:
        seen.append(options.flyback)
        raise ValueError("that is enough")

    monkeypatch.setattr(calibrate, "calibrate", _calibrate)
    for device_id in ("scan 1", "scan 2", ""):
        settings = replace(SETTINGS, device_id=device_id)
        file = save(tmp_path / "new.npy", np.ones((2, 192, 192), np.float32), settings)
        folder = str(tmp_path / "report")
        assert main(["calibrate", str(file), "--store", str(store.path), "--out", folder]) == 2

    assert seen == [store.known_flyback("scan 1"), None, None]
    assert seen[0] is not None
    assert "that is enough" in capsys.readouterr().err


@pytest.mark.parametrize("hindrance", ["no folder", "full disk"])
def test_a_store_that_cannot_be_written_is_refused_before_anything_is_learnt(
    store: CalibrationStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hindrance: str,
) -> None:
    def _calibrate(*_: object, **__: object) -> None:
        pytest.fail("it began to learn")

    monkeypatch.setattr(calibrate, "calibrate", _calibrate)
    file = save(tmp_path / "new.npy", np.ones((2, 192, 192), np.float32), SETTINGS)
    path = store.path if hindrance == "full disk" else file / "store.sqlite"
    words = ["calibrate", str(file), "--store", str(path), "--out", str(tmp_path / "out")]
    with files_of_at_most(2**20 if hindrance == "full disk" else None):
        assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"nion-distortion: {path} cannot be ")
    assert said.count("\n") == 1
    assert len(store.list()) == 1


@contextmanager
def files_of_at_most(limit: int | None) -> Iterator[None]:
    """Let no file grow beyond some bytes, as on a disk that is full."""
    if limit is None:
        yield
        return
    resource = pytest.importorskip("resource")  # Windows has none
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_cancelled_calibration_saves_nothing(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(calibrate._Bar):
        def __call__(self, _now: Any) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "_Bar", Interrupted)
    assert command(tmp_path, "calibrate", str(stack)) == 2
    sentence = "nion-distortion: the calibration was cancelled, and nothing was saved\n"
    assert capsys.readouterr().err.endswith(sentence)
    assert not (tmp_path / "store.sqlite").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cell", "1,2"], "--cell must be a,b,gamma"),
        (["--cell", "a,b,c"], "--cell must be a,b,gamma"),
        (["--crystal", "STO"], "the crystal must be one of SrTiO3 [001], "),
        (["--frames", "0"], "--frames must be positive, not 0"),
        (["--stop-pm", "-1"], "--stop-pm must be positive, not -1"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert command(tmp_path, "calibrate", "missing.npy", *words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_cell_may_have_standard_deviations() -> None:
    read = calibrate._cell("0.39,0.4,91,0.001,0.002,0.1")
    assert read == KnownCrystal(
        a_nm=0.39, b_nm=0.4, gamma_deg=91, a_std_nm=0.001, b_std_nm=0.002, gamma_std_deg=0.1
    )
    assert calibrate._cell("0.39,0.4,91").b_std_nm == 0


@pytest.mark.usefixtures("store")
def test_no_match_names_the_nearest_and_corrects_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = full_settings(dwell_time_us=2.0, flyback_time_us=None)
    file = save(tmp_path / "one.npy", spectrum_image(), other)
    assert command(tmp_path, "correct", str(file), "--calibration", "auto") == 2
    said = capsys.readouterr().err
    assert "so nothing was corrected: the nearest calibration (" in said
    assert "dwell_time_us (1 there, 2 here), flyback_time_us (120 there, not reported here)" in said
    assert not (tmp_path / "out").exists()


def test_a_named_calibration_says_what_differs_and_what_nobody_checked(
    store: CalibrationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = store.list()[0].calibration_id
    other = full_settings(dwell_time_us=2.0, flyback_time_us=None)
    file = save(tmp_path / "one.npy", spectrum_image(), other)
    assert command(tmp_path, "correct", str(file), "--calibration", name[:4]) == 0
    said = capsys.readouterr().out
    assert "although the scan differs in dwell_time_us (1 there, 2 here): " in said
    assert re.search(r"taken to be the same: .*flyback_time_us\.", said)
    record = numbers_in(tmp_path / "out")["calibration"]
    assert record["differs"] == ["dwell_time_us (1 there, 2 here)"]
    assert "flyback_time_us" in record["not_checked"]


@pytest.mark.parametrize("change", [{"field_of_view_nm": 9.0}, {"shape_px": (96, 80)}])
def test_a_calibration_of_other_pixels_is_refused(
    store: CalibrationStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
) -> None:
    name = store.list()[0].calibration_id
    other = replace(full_settings(), **change)
    file = save(tmp_path / "one.npy", np.ones(other.shape_px), other)
    assert command(tmp_path, "correct", str(file), "--calibration", name) == 2
    assert f"it differs in {next(iter(change))} (" in capsys.readouterr().err


def test_a_spectrum_image_is_corrected_plane_by_plane(
    store: CalibrationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "READ_PX", 2 * 80 * 96)  # two planes in memory
    file = save(tmp_path / "si.npy", spectrum_image(5), full_settings())
    assert command(tmp_path, "correct", str(file), "--calibration", "auto") == 0
    (stored,) = hspy.file_reader(str(tmp_path / "out/si_corrected.hspy"))
    field = tiny_model().stationary_field()
    expected = correct_frame(np.load(file), field, settings=full_settings())
    np.testing.assert_array_equal(stored["data"], expected.image)
    assert [axis["navigate"] for axis in stored["axes"]] == [True, True, False]
    record = stored["metadata"]["nion_distortion"]["provenance"]
    assert record["correction"]["calibration"]["id"] == store.list()[0].calibration_id
    assert Path(record["file"]) == file


def test_the_shape_of_a_named_calibration_tells_a_spectrum_image_from_a_stack(
    tmp_path: Path,
) -> None:
    file = save(tmp_path / "si.npy", spectrum_image(12), None)
    assert open_spectrum_image(file, 8.0) is None
    found = open_spectrum_image(file, 8.0, (80, 96))
    assert found is not None
    assert found.settings.field_of_view_nm == 8.0
    stack = save(tmp_path / "stack.npy", np.ones((4, 80, 96)), None)
    assert open_spectrum_image(stack, 8.0, (80, 96)) is None


def test_a_spectrum_image_of_hyperspy_keeps_its_axes(
    store: CalibrationStore, tmp_path: Path
) -> None:
    file = save(tmp_path / "si.npy", spectrum_image(2, 3), full_settings())
    assert command(tmp_path, "correct", str(file), "--calibration", "auto") == 0
    made = tmp_path / "out/si_corrected.hspy"
    raw = tmp_path / "raw.hspy"
    raw.write_bytes(made.read_bytes())
    with h5py.File(raw, "a") as content:
        (group,) = content["Experiments"].values()
        group["axis-3"].attrs.update(scale=0.25, offset=500.0, units="eV", name="energy loss")
        group["metadata/Signal"].attrs["signal_type"] = "EELS"
        group["metadata"].pop("nion_distortion")
        group["data"][...] = np.load(file)
    (before,) = hspy.file_reader(str(made))
    name = store.list()[0].calibration_id
    assert command(tmp_path, "correct", str(raw), "--calibration", name) == 0
    (stored,) = hspy.file_reader(str(tmp_path / "out/raw_corrected.hspy"))
    np.testing.assert_array_equal(stored["data"], before["data"])
    last = stored["axes"][3]
    assert (last["scale"], last["offset"], last["units"]) == (0.25, 500.0, "eV")
    assert stored["metadata"]["Signal"]["signal_type"] == "EELS"


@pytest.mark.usefixtures("store")
def test_what_was_corrected_already_is_not_corrected_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "si.npy", spectrum_image(3), full_settings())
    assert command(tmp_path, "correct", str(file), "--calibration", "auto") == 0
    done = str(tmp_path / "out/si_corrected.hspy")
    assert command(tmp_path, "correct", done, "--calibration", "auto") == 2
    assert "its distortion was taken out already" in capsys.readouterr().err


@pytest.fixture(params=[".h5", ".csv"])
def exported(request: pytest.FixtureRequest, store: CalibrationStore, tmp_path: Path) -> Path:
    """Export the field of the stored calibration."""
    name, file = store.list()[0].calibration_id, tmp_path / f"field{request.param}"
    words = ["calibrations", "field", name, str(file), "--store", str(store.path)]
    assert main(words) == 0
    assert main(words) == 2  # never in the place of another file
    return file


def test_an_exported_field_says_what_its_sign_means(exported: Path) -> None:
    field = tiny_model().stationary_field()
    if exported.suffix == ".h5":
        with h5py.File(exported) as content:
            # both are computed from the stored information: the last bit of float32 may differ
            np.testing.assert_allclose(content["std_px"], field.std_px, rtol=0, atol=1e-7)
            np.testing.assert_array_equal(content["valid"], field.valid)
            assert content["displacement_px"].attrs["units"] == "px"
            assert content.attrs["sign_convention"] == SIGN_CONVENTION
            assert json.loads(content.attrs["settings"])["dwell_time_us"] == 1.0
        return
    lines = exported.read_text().splitlines()
    assert lines[0] == f"# sign_convention: {SIGN_CONVENTION}"
    comments = sum(line.startswith("#") for line in lines)
    table = np.genfromtxt(exported, delimiter=",", names=True, skip_header=comments)
    y, x = table["y_px"].astype(int), table["x_px"].astype(int)
    expected = field.displacement_px[1, y, x]
    np.testing.assert_allclose(table["displacement_x_px"], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(table["valid"], field.valid[y, x])


def test_a_field_is_written_as_hdf5_or_table_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"field\.txt must end in \.h5 or \.csv"):
        write_field(tmp_path / "field.txt", tiny_model().stationary_field())


def test_frames_of_a_stack_are_read_as_before(tmp_path: Path) -> None:
    stack = save(tmp_path / "stack.npy", np.ones((4, 80, 96)), full_settings())
    assert open_spectrum_image(stack) is None
    assert len(read_frames(stack)) == 4


def test_the_history_says_how_much_calibrations_differ(
    store: CalibrationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["calibrations", "history", "--out", str(tmp_path / "h.png"), "--store"]
    assert main([*words, str(store.path)]) == 2
    assert "a change needs two calibrations" in capsys.readouterr().err
    model = tiny_model()
    later = replace(
        model,
        known=replace(model.known, vector=1.2 * model.known.vector),
        stationary=replace(model.stationary, mean=1.2 * model.stationary.mean),
        distortion_px=model.basis.on_pixels(1.2 * model.stationary.mean),
    )
    store.save(later, time_s=1e9 + 7200)
    assert main([*words, str(store.path)]) == 0
    said = capsys.readouterr().out
    found = re.search(
        r"2\.00 h after \w+, differs by ([\d.]+) pm \(rms\); the .* ([\d.]+) pm", said
    )
    assert found is not None
    fields = [one.stationary_field() for one in (model, later)]
    seen = fields[0].valid & fields[1].valid
    difference = (fields[1].displacement_px - fields[0].displacement_px)[:, seen]
    size = 1e3 * fields[0].settings.pixel_size_nm
    expected = size * np.sqrt((difference**2).sum(axis=0).mean())
    assert float(found[1]) == pytest.approx(expected, abs=0.01)
    assert expected > 1.0
    std = size * np.sqrt((fields[0].std_px[:, seen] ** 2).sum(axis=0).mean() * 2)
    assert float(found[2]) == pytest.approx(std, rel=0.02)
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
