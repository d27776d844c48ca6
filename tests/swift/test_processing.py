"""The Processing menu's "Correct Distortion", in the host's headless window."""

import datetime
import unittest
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from calibration_cases import model_for
from nion.data import Calibration, DataAndMetadata
from nion.swift import Application, Facade, Inspector
from nion.swift.model import DataItem
from nion.swift.test import TestContext
from nion.ui import Declarative, Window
from scipy.spatial import cKDTree

from nion_distortion.atoms import find_columns
from nion_distortion.calibrations import CalibrationStore
from nion_distortion.correction import correct_frame
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.options import CRYSTALS, Resample
from nion_distortion.swift import processing
from nion_distortion.swift.computation import CorrectDistortion
from nion_distortion.swift.processing import ACTION_ID, register_processing
from nion_distortion.swift.xdata import scanned_xdata
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.scan import strong_flyback
from simulator.specimen import make_specimen

pytestmark = pytest.mark.gui

SETTINGS = ScanSettings(
    shape_px=(80, 96),
    field_of_view_nm=3.0,
    dwell_time_us=1.0,
    flyback_time_us=120.0,
    line_time_us=216.0,
    high_tension_v=2e5,
    line_sync=False,
    frame_sync=False,
    device_id="scan",
    extra=(("beam_lag_us", 0.0),),
)
CRYSTAL = replace(SETTINGS, shape_px=(160, 160), field_of_view_nm=5.0, line_time_us=280.0)
"""Wide enough that a lattice is found."""

SCANNED = datetime.datetime(1970, 1, 1)  # the host's times are UTC without saying so
"""When the model learnt: nothing has aged."""

FIELD = model_for(SETTINGS).stationary_field()


def metadata_of(settings: ScanSettings, **blocks: Any) -> dict[str, Any]:
    """Return what the host keeps beside a scan with these settings."""
    device = {
        "pixel_size": settings.shape_px,
        "fov_nm": settings.field_of_view_nm,
        "pixel_time_us": settings.dwell_time_us,
        "flyback_time_us": settings.flyback_time_us,
        "line_time_us": settings.line_time_us,
        "ac_line_sync": settings.line_sync,
        "ac_frame_sync": settings.frame_sync,
    } | dict(settings.extra)
    return {
        "instrument": {"high_tension": settings.high_tension_v},
        "scan": {"hardware_source_id": settings.device_id, "scan_device_properties": device},
        "hardware_source": {"hardware_source_id": "scan", "channel_name": "HAADF"},
    } | blocks


def pixels(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(1.0, 2.0, shape).astype(np.float32)


def described(
    data: npt.NDArray[Any],
    metadata: dict[str, Any] | None = None,
    kind: tuple[bool, int, int] = (False, 0, 2),
    settings: ScanSettings = SETTINGS,
) -> DataAndMetadata.DataAndMetadata:
    """Describe data as the host does; scans are in nm around their middle, other axes in eV."""
    first, scale = int(kind[0] or kind[1] == 1), settings.pixel_size_nm
    axes = [Calibration.Calibration(1.0, 2.0, "eV") for _ in data.shape]
    for place in range(2):
        offset = -scale * settings.shape_px[place] / 2
        axes[first + place] = Calibration.Calibration(offset, scale, "nm")
    return DataAndMetadata.new_data_and_metadata(
        data,
        Calibration.Calibration(units="e"),
        axes,
        metadata_of(settings) if metadata is None else metadata,
        SCANNED,
        data_descriptor=DataAndMetadata.DataDescriptor(*kind),
    )


def assert_corrected(
    corrected: npt.NDArray[Any], raw: npt.NDArray[Any], *, resample: Resample = "spline"
) -> None:
    """Hold a result against the same correction without the host."""
    expected = correct_frame(raw, FIELD, settings=SETTINGS, resample=resample).image
    np.testing.assert_allclose(corrected, expected, rtol=1e-5)  # the store rounds


class Project:
    """A project in memory, a window on it, and the menu item."""

    def __init__(self, context: Any, store: CalibrationStore) -> None:
        self.context, self.store = context, store
        self.open()

    def open(self) -> None:
        self.window = self.context.create_document_controller(auto_close=False)
        self.model = self.window.document_model

    def reopen(self) -> None:
        self.window.close()
        self.context.reload()
        self.open()

    def add(self, xdata: Any, title: str = "HAADF") -> Any:
        data_item = DataItem.new_data_item()
        data_item.title = title
        if xdata is not None:
            data_item.set_xdata(xdata, data_modified=xdata.timestamp)
        self.model.append_data_item(data_item)
        return data_item

    def correct(self, *sources: Any, **parameters: str) -> list[Any]:
        """Select, click, wait; with other parameters than the first ones, a second run."""
        before = set(self.model.data_items)
        shown = [self.model.get_display_item_for_data_item(source) for source in sources]
        context = self.window._get_action_context_for_display_items(shown, None)
        self.window.perform_action_in_context(ACTION_ID, context)
        results = [item for item in self.model.data_items if item not in before]
        for result in results:
            self.set(result, **parameters)
        self.compute()
        return results

    def set(self, result: Any, **parameters: str) -> None:
        for name, value in parameters.items():
            self.computation(result).set_input_value(name, value)

    def compute(self) -> None:
        self.model.recompute_all()
        self.window.periodic()

    def computation(self, result: Any) -> Any:
        return self.model.get_data_item_computation(result)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    case = unittest.TestCase()
    Facade.initialize()
    TestContext.begin_leaks()
    setup = TestContext.TestSetup()
    store = CalibrationStore(tmp_path / "store.sqlite")
    registered = register_processing(open_store=lambda: store)
    with TestContext.create_memory_context() as context:
        opened = Project(context, store)
        yield opened
        opened.window.close()
        del opened.window, opened.model, opened
    registered.close()
    del setup
    TestContext.end_leaks(case)


@pytest.fixture
def calibration_id(project: Project) -> str:
    return project.store.save(model_for(SETTINGS), time_s=1e9, sample="SrTiO3")


@pytest.mark.usefixtures("calibration_id")
def test_image_is_corrected_by_the_calibration_for_its_own_settings(project: Project) -> None:
    image = pixels(80, 96)
    source = project.add(described(image))
    (result,) = project.correct(source)
    assert_corrected(result.data, image)
    assert result.title == "HAADF (corrected)"
    assert project.computation(result).error_text is None
    assert [axis.units for axis in result.dimensional_calibrations] == ["nm", "nm"]
    assert result.dimensional_calibrations == source.dimensional_calibrations
    assert result.intensity_calibration.units == "e"
    np.testing.assert_array_equal(source.data, image)


def test_result_says_what_was_done_and_how_good_it_is(
    project: Project, calibration_id: str
) -> None:
    (result,) = project.correct(project.add(described(pixels(80, 96))))
    ours = result.metadata["nion_distortion"]
    assert ours["calibration"]["id"] == calibration_id
    assert ours["correction"]["kind"] == "stationary"
    assert ours["settings"]["field_of_view_nm"] == 3.0
    (frame,) = ours["frames"]
    error_pm = project.store.list()[0].predicted_error_pm
    assert frame["corrected_pm"]["value"] == pytest.approx(error_pm, rel=0.02)
    assert f"corrected to an expected {frame['corrected_pm']['value']:.1f} pm" in result.caption
    off_by = frame["off_by_pm"]
    assert f"Off by {off_by['value']:.1f} ± {off_by['std']:.1f} pm" in result.caption
    assert f"By calibration {calibration_id}, SrTiO3, 2001-09-09" in result.caption


@pytest.mark.usefixtures("calibration_id")
def test_metadata_of_the_scan_are_kept_but_the_result_is_not_taken_for_a_live_view(
    project: Project,
) -> None:
    source = project.add(described(pixels(80, 96)))
    (result,) = project.correct(source)
    assert "hardware_source" not in result.metadata
    kept = result.metadata["nion_distortion"]["hardware_source"]
    assert kept == {"hardware_source_id": "scan", "channel_name": "HAADF"}
    assert result.metadata["scan"] == source.metadata["scan"]
    assert result.metadata["computation"]["computation_id"] == "nion_distortion.correct"


@pytest.mark.usefixtures("calibration_id")
def test_many_are_corrected_at_once_and_undone_at_once(project: Project) -> None:
    sources = [project.add(described(k * pixels(80, 96)), f"scan {k}") for k in (1, 2, 3)]
    results = project.correct(*sources)
    assert [one.title for one in results] == [f"scan {k} (corrected)" for k in (1, 2, 3)]
    np.testing.assert_allclose(results[2].data, 3 * results[0].data, rtol=1e-5)
    project.window.handle_undo()
    assert list(project.model.data_items) == sources
    project.window.handle_redo()
    project.compute()
    again = list(project.model.data_items)[3:]
    assert [one.title for one in again] == [f"scan {k} (corrected)" for k in (1, 2, 3)]
    assert all(project.computation(one) is not None for one in again)


@pytest.mark.usefixtures("calibration_id")
@pytest.mark.parametrize("kind", [(True, 0, 2), (False, 1, 2)])
def test_every_frame_of_a_stack_is_corrected(project: Project, kind: tuple[bool, int, int]) -> None:
    stack = pixels(3, 80, 96)
    source = project.add(described(stack, kind=kind))
    (result,) = project.correct(source)
    for image, corrected in zip(stack, result.data, strict=True):
        assert_corrected(corrected, image)
    assert result.xdata.data_descriptor == source.xdata.data_descriptor
    assert result.dimensional_calibrations == source.dimensional_calibrations


@pytest.mark.usefixtures("calibration_id")
def test_stack_may_still_be_on_disk(project: Project, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "stack.h5", "w") as file:
        file["data"] = pixels(2, 80, 96)
        source = project.add(described(pixels(2, 80, 96), kind=(True, 0, 2)))
        lazy = described(file["data"], kind=(True, 0, 2))
        assert isinstance(lazy.data, h5py.Dataset)
        facade = SimpleNamespace(get_input_data_item=lambda _name: source)
        computation = CorrectDistortion(
            SimpleNamespace(_computation=facade), open_store=lambda: project.store
        )
        computation.execute(
            src=SimpleNamespace(xdata=lazy), applied="auto", reference="free", resample="spline"
        )
    assert computation._done is not None
    assert_corrected(np.asarray(computation._done.data[1]), pixels(2, 80, 96)[1])


@pytest.mark.usefixtures("calibration_id")
@pytest.mark.parametrize(
    ("kind", "trailing"), [((False, 2, 1), (5,)), ((False, 2, 2), (4, 3)), ((True, 2, 1), (5,))]
)
def test_every_plane_of_a_spectrum_image_is_corrected_alike(
    project: Project,
    kind: tuple[bool, int, int],
    trailing: tuple[int, ...],
) -> None:
    shape = (*((2,) if kind[0] else ()), 80, 96, *trailing)
    counts = np.random.default_rng(0).poisson(5.0, shape).astype(np.uint16)
    source = project.add(described(counts, kind=kind))
    (result,) = project.correct(source, resample="nearest")
    whole = counts if kind[0] else counts[np.newaxis]
    corrected = result.data if kind[0] else result.data[np.newaxis]
    for scan, done in zip(whole, corrected, strict=True):
        assert_corrected(done, scan, resample="nearest")
    assert result.data.shape == shape
    assert result.xdata.data_descriptor == source.xdata.data_descriptor
    assert result.dimensional_calibrations == source.dimensional_calibrations


def test_without_a_calibration_the_nearest_one_is_named_and_nothing_is_shown(
    project: Project, calibration_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    slower = replace(SETTINGS, dwell_time_us=2.0, line_time_us=312.0)
    (result,) = project.correct(project.add(described(pixels(80, 96), metadata_of(slower))))
    why = project.computation(result).error_text
    assert why.startswith("No calibration holds for this scan, so nothing was corrected: ")
    assert f"the nearest calibration ({calibration_id}, SrTiO3, " in why
    assert "dwell time (1 µs there, 2 µs here), line time (216 µs there, 312 µs here)" in why
    assert result.caption == f"Not corrected: {why}"
    assert not result.has_data
    assert capfd.readouterr() == ("", "")


def test_empty_store_is_told(project: Project) -> None:
    (result,) = project.correct(project.add(described(pixels(80, 96))))
    assert project.computation(result).error_text.endswith("store.sqlite is empty.")


def test_calibration_that_was_named_is_used_in_spite_of_a_difference_which_is_told(
    project: Project, calibration_id: str
) -> None:
    slower = replace(SETTINGS, dwell_time_us=2.0, line_time_us=312.0)
    source = project.add(described(pixels(80, 96), metadata_of(slower)))
    (result,) = project.correct(source, applied=calibration_id)
    assert_corrected(result.data, pixels(80, 96))
    assert "no error allows: dwell time (1 µs there, 2 µs here), line time" in result.caption


def test_calibration_for_other_pixels_is_refused(project: Project, calibration_id: str) -> None:
    wide = replace(SETTINGS, field_of_view_nm=6.0)
    source = project.add(described(pixels(80, 96), metadata_of(wide), settings=wide))
    (result,) = project.correct(source, applied=calibration_id)
    assert "cannot hold for this scan" in project.computation(result).error_text
    assert "field of view (3 nm there, 6 nm here)" in project.computation(result).error_text


def test_item_that_does_not_say_how_it_was_scanned_needs_a_named_calibration(
    project: Project, calibration_id: str
) -> None:
    source = project.add(described(pixels(80, 96), {}))
    (result,) = project.correct(source)
    assert project.computation(result).error_text == (
        "HAADF does not say how it was scanned, so no calibration can be found for it: choose one "
        "yourself, if you know that it holds."
    )
    project.set(result, applied=calibration_id)
    project.compute()
    assert project.computation(result).error_text is None
    assert_corrected(result.data, pixels(80, 96))
    assert "Not reported, taken to be the same: dwell_time_us, flyback_time_us" in result.caption


def test_item_without_a_pixel_size_is_refused(project: Project, calibration_id: str) -> None:
    bare = DataAndMetadata.new_data_and_metadata(pixels(80, 96))
    source = project.add(bare)
    (result,) = project.correct(source, applied=calibration_id)
    said = project.computation(result).error_text
    assert said == "HAADF has no pixel size: calibrate its axes in nm."
    axis = Calibration.Calibration(0.0, SETTINGS.pixel_size_nm, "nm")
    source.set_dimensional_calibrations([axis, axis])
    project.compute()
    assert project.computation(result).error_text is None
    assert result.dimensional_calibrations == [axis, axis]


def scanned(*, frames: int = 1) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Simulate frames with a strong fly-back; also where an undistorted one shows its columns."""
    crystal = make_specimen("sto_001", rotation_rad=0.07)
    microscope = Microscope(
        crystal, errors=strong_flyback(CRYSTAL), detector=Detector(counts_at_peak=200.0)
    )
    images = [microscope.shot(CRYSTAL, k).frame.image for k in range(frames)]
    true_px = Microscope(crystal).shot(CRYSTAL).truth.columns.seen_px
    return np.stack(images), true_px


def off_by_pm(image: npt.NDArray[Any], true_px: npt.NDArray[np.float64]) -> float:
    """Rms way of the columns from where an undistorted scan shows them, but for an affine map."""
    found = find_columns(image).positions_px
    columns = found[np.all((found > 4) & (found < np.array(image.shape) - 5), axis=1)]
    way = columns - true_px[cKDTree(true_px).query(columns)[1]]
    design = np.column_stack([np.ones(len(columns)), columns])
    left = way - design @ np.linalg.lstsq(design, way)[0]
    return float(1e3 * CRYSTAL.pixel_size_nm * np.sqrt(np.mean(np.sum(left**2, axis=1))))


@pytest.mark.parametrize("reference", ["free", "SrTiO3 [001]"])
def test_own_lattice_takes_the_distortion_out(project: Project, reference: str) -> None:
    (image,), true_px = scanned()
    source = project.add(described(image, settings=CRYSTAL))
    (result,) = project.correct(source, applied="lattice", reference=reference)
    before_pm = off_by_pm(image, true_px)
    assert before_pm > 30
    assert off_by_pm(result.data, true_px) < 0.3 * before_pm
    ours = result.metadata["nion_distortion"]
    assert ours["correction"]["reference"] == {"free": "free"}.get(reference, "known crystal")
    assert "calibration" not in ours
    scale = ours["scale"]
    assert (scale is None) == (reference == "free")
    if scale is not None:
        std_pm = 10 * CRYSTAL.pixel_size_nm * scale["scale_error_slow_std_percent"]
        slow = f"{1e3 * scale['scanned_pixel_slow_nm']:.3f} ± {std_pm:.3f} x "
        assert f"as scanned {slow}" in result.caption
        assert scale["corrected_pixel_size_nm"] == result.dimensional_calibrations[0].scale
    assert "real displacements longer than about two cells are removed" in result.caption


def test_own_lattice_of_a_stack_goes_on_from_frame_to_frame(project: Project) -> None:
    images, true_px = scanned(frames=3)
    stack = np.concatenate([np.full_like(images[:1], 7.0), images])
    source = project.add(described(stack, kind=(True, 0, 2), settings=CRYSTAL))
    (result,) = project.correct(source, applied="lattice")
    for image in result.data[1:]:
        assert off_by_pm(image, true_px) < 0.3 * off_by_pm(images[0], true_px)
    assert "Corrected by what the other frames taught: 1 (" in result.caption
    # nothing was in the first frame, but the fly-back has moved its edge out of the picture
    seen = result.data[0] != 0
    np.testing.assert_allclose(result.data[0][seen], 7.0, rtol=1e-5)
    np.testing.assert_array_equal(seen.mean(axis=0)[[0, 80]] > 0.5, [False, True])
    frames = result.metadata["nion_distortion"]["frames"]
    assert [bool(frame["unusable"]) for frame in frames] == [True, False, False, False]


def test_own_lattice_is_refused_where_there_is_none(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    source = project.add(described(np.full((80, 96), 7.0, np.float32)))
    (result,) = project.correct(source, applied="lattice")
    assert project.computation(result).error_text
    assert result.caption == f"Not corrected: {project.computation(result).error_text}"
    assert capfd.readouterr().err == ""


def test_own_lattice_is_not_looked_for_in_spectra(project: Project) -> None:
    source = project.add(described(pixels(80, 96, 4), kind=(False, 2, 1)))
    (result,) = project.correct(source, applied="lattice")
    assert "choose a stored calibration" in project.computation(result).error_text


@pytest.mark.usefixtures("calibration_id")
def test_a_changed_parameter_or_source_runs_it_again_and_another_view_of_it_does_not(
    project: Project,
) -> None:
    source = project.add(described(pixels(80, 96)))
    (result,) = project.correct(source)
    computation, smooth = project.computation(result), result.data.copy()
    runs = computation._evaluation_count_for_test
    shown = project.model.get_display_item_for_data_item(source).display_data_channels[0]
    shown.display_limits = (1.2, 1.4)
    source.title = "renamed"
    project.compute()
    assert computation._evaluation_count_for_test == runs
    project.set(result, resample="nearest")
    project.compute()
    assert computation._evaluation_count_for_test == runs + 1
    assert not np.array_equal(result.data, smooth)
    assert set(np.unique(result.data)) <= {0.0, *np.unique(source.data)}
    source.set_xdata(described(2 * pixels(80, 96)), data_modified=SCANNED)
    project.compute()
    assert_corrected(result.data, 2 * pixels(80, 96), resample="nearest")


@pytest.mark.usefixtures("calibration_id")
def test_refused_second_run_keeps_the_picture_and_says_so(project: Project) -> None:
    (result,) = project.correct(project.add(described(pixels(80, 96))))
    before = result.data.copy()
    project.set(result, applied="nothing")
    project.compute()
    why = project.computation(result).error_text
    assert why.endswith("has no calibration nothing.")
    assert result.caption == f"Not updated: {why}"
    np.testing.assert_array_equal(result.data, before)
    project.set(result, applied="auto")
    project.compute()
    assert project.computation(result).error_text is None
    assert result.caption.startswith("Off by ")


@pytest.mark.usefixtures("calibration_id")
def test_with_the_source_the_result_goes_too(project: Project) -> None:
    source = project.add(described(pixels(80, 96)))
    project.correct(source)
    project.model.remove_data_item(source)
    assert len(project.model.data_items) == 0
    assert len(project.model.computations) == 0


@pytest.mark.usefixtures("calibration_id")
def test_project_that_is_opened_again_has_its_computation(project: Project) -> None:
    project.correct(project.add(described(pixels(80, 96))))
    project.reopen()
    source, result = project.model.data_items
    computation = project.computation(result)
    assert computation.processing_id == "nion_distortion.correct"
    assert computation.label == "Correct Distortion"
    project.set(result, resample="nearest")
    project.compute()
    assert computation.error_text is None
    assert set(np.unique(result.data)) <= {0.0, *np.unique(source.data)}


class Parameters:
    """The parameters of a result as the host's inspector shows them."""

    def __init__(self, project: Project, result: Any) -> None:
        self.project, self.computation = project, project.computation(result)
        window = project.window
        context = Inspector.ComputationInspectorContext(window)
        self.handlers, self.widgets = {}, []
        for variable in self.computation.variables:
            model = Inspector.VariableValueModel(window, self.computation, variable)
            handler: Any = Inspector.make_computation_variable_component(
                context, self.computation, variable, model
            )
            self.handlers[variable.name] = handler
            widget = Declarative.DeclarativeWidget(window.ui, window.event_loop, handler)
            self.widgets.append(widget)

    def load(self) -> None:
        self.project.window.event_loop.run_until_complete(self.handlers["applied"]._task)

    def choose(self, name: str, label: str) -> None:
        """Choose from a list, as a click does."""
        combo_box = self.handlers[name].combo_box
        combo_box._behavior.current_text = label
        combo_box._behavior.on_current_text_changed(label)

    def chosen(self, name: str) -> str:
        return str(self.handlers[name].combo_box.current_item)

    def close(self) -> None:
        for widget in self.widgets:
            widget.close()


@pytest.fixture
def inspected(project: Project, calibration_id: str) -> Iterator[Parameters]:  # noqa: ARG001
    (result,) = project.correct(project.add(described(pixels(80, 96))))
    parameters = Parameters(project, result)
    yield parameters
    parameters.close()


def test_inspector_lists_what_can_be_chosen(inspected: Parameters, calibration_id: str) -> None:
    inspected.load()
    labels = {name: inspected.handlers[name].labels for name in ("applied", "reference")}
    assert labels["applied"][:2] == ["calibration for its own settings", "its own lattice"]
    assert labels["applied"][2].startswith(f"{calibration_id[:6]} SrTiO3, 2001-09-09 ")
    assert labels["reference"][2:] == list(CRYSTALS)
    assert inspected.handlers["applied"].combo_box.items == labels["applied"]
    assert inspected.chosen("applied") == "calibration for its own settings"
    assert inspected.computation.get_input_value("applied") == "auto"


def test_choice_in_the_inspector_runs_it_again_and_can_be_undone(
    inspected: Parameters, calibration_id: str
) -> None:
    inspected.load()
    runs = inspected.computation._evaluation_count_for_test
    inspected.choose("applied", inspected.handlers["applied"].labels[2])
    assert inspected.computation.get_input_value("applied") == calibration_id
    inspected.project.compute()
    assert inspected.computation._evaluation_count_for_test == runs + 1
    inspected.project.window.handle_undo()
    assert inspected.computation.get_input_value("applied") == "auto"
    assert inspected.chosen("applied") == "calibration for its own settings"


def test_calibration_that_is_no_longer_stored_is_shown_by_its_id(inspected: Parameters) -> None:
    inspected.load()
    inspected.computation.set_input_value("applied", "gone")
    assert inspected.chosen("applied") == "gone"
    assert inspected.computation.get_input_value("applied") == "gone"


def test_damaged_store_leaves_the_shorter_list(
    inspected: Parameters, caplog: pytest.LogCaptureFixture
) -> None:
    inspected.project.store.path.write_bytes(b"no database at all")
    inspected.load()
    assert inspected.handlers["applied"].labels == [
        "calibration for its own settings",
        "its own lattice",
    ]
    assert "could not be read" in caplog.text


def test_other_computations_have_the_hosts_own_inspector(project: Project) -> None:
    source = project.add(described(pixels(80, 96)))
    parameters = Parameters(project, computed(project, source, "processing.gaussian_filter"))
    assert not hasattr(parameters.handlers["sigma"], "labels")
    parameters.close()


def test_menu_item_is_in_the_processing_menu_and_needs_a_selection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = unittest.TestCase()
    TestContext.begin_leaks()
    setup = TestContext.TestSetup()
    monkeypatch.setattr(Application, "app", setup.app)
    store = CalibrationStore(tmp_path / "store.sqlite")
    registered = register_processing(open_store=lambda: store)
    with TestContext.create_memory_context() as context:
        window = context.create_document_controller(auto_close=False)
        for handler in setup.app.menu_handlers:
            handler(window)
        titles = [item.title for item in window._processing_menu.items]
        assert titles.count("Correct Distortion") == 1
        nothing = window._get_action_context_for_display_items([], None)
        assert not window.is_action_enabled(ACTION_ID, nothing)
        window.close()
    registered.close()
    assert setup.app.menu_handlers == []
    assert ACTION_ID not in Window.actions
    del setup
    TestContext.end_leaks(case)


def colour() -> DataAndMetadata.DataAndMetadata:
    return DataAndMetadata.new_data_and_metadata(np.zeros((16, 16, 3), np.uint8))


def complex_image() -> DataAndMetadata.DataAndMetadata:
    return DataAndMetadata.new_data_and_metadata(np.zeros((16, 16), np.complex64))


def line() -> DataAndMetadata.DataAndMetadata:
    return DataAndMetadata.new_data_and_metadata(np.zeros(16, np.float32))


@pytest.mark.usefixtures("calibration_id")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (colour, "it is a colour picture; the detector's own values are needed"),
        (complex_image, "it holds complex numbers; an image of real numbers is needed"),
        (line, "it is neither an image, nor a stack of them, nor a spectrum image"),
        (lambda: None, "it has no data"),
    ],
)
def test_what_cannot_be_corrected_is_left_out_with_one_sentence(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], Any],
    reason: str,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(processing, "_notify", told.append)
    good, wrong = project.add(described(pixels(80, 96))), project.add(make(), "other")
    (result,) = project.correct(good, wrong)
    assert result.title == "HAADF (corrected)"
    assert told == [f"other: {reason}."]
    assert project.correct(wrong) == []


@pytest.mark.usefixtures("calibration_id")
def test_live_item_is_left_to_the_live_correction(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(processing, "_notify", told.append)
    source = project.add(described(pixels(80, 96)))
    with project.model.data_item_live(source):
        assert project.correct(source) == []
    assert told == ["HAADF: it is being acquired: correct the live scan, or take a snapshot."]


@pytest.mark.usefixtures("calibration_id")
def test_scan_that_was_aborted_is_refused_and_a_partial_one_waited_for(project: Project) -> None:
    half = metadata_of(SETTINGS)
    half["hardware_source"]["valid_rows"] = 40
    (aborted,) = project.correct(project.add(described(pixels(80, 96), half)))
    assert project.computation(aborted).error_text == "Only 40 of 80 lines were scanned."
    source = project.add(described(pixels(80, 96)))
    (result,) = project.correct(source)
    before = result.data.copy()
    source.set_xdata(described(2 * pixels(80, 96), half))
    project.compute()
    assert project.computation(result).error_text is None
    np.testing.assert_array_equal(result.data, before)


def computed(project: Project, source: Any, action: str) -> Any:
    """Return what another item of the host's menu makes of an item."""
    shown = project.model.get_display_item_for_data_item(source)
    context = project.window._get_action_context_for_display_items([shown], None)
    project.window.perform_action_in_context(action, context)
    project.compute()
    return project.model.data_items[-1]


@pytest.mark.usefixtures("calibration_id")
def test_fly_back_is_not_taken_out_of_what_was_turned(project: Project) -> None:
    source = project.add(described(pixels(80, 96)))
    turned = computed(project, source, "processing.flip_horizontal")
    np.testing.assert_array_equal(turned.data, source.data[:, ::-1])
    (result,) = project.correct(turned)
    assert project.computation(result).error_text == (
        "The image is not the scan as it was made (it was computed from another item by "
        '"Transpose/Flip"), so the model\'s fly-back does not hold for it.'
    )


def test_own_lattice_of_what_was_turned_leaves_the_fly_back_out_and_says_so(
    project: Project,
) -> None:
    (image,), _true_px = scanned()
    turned = computed(
        project, project.add(described(image, settings=CRYSTAL)), "processing.flip_horizontal"
    )
    (result,) = project.correct(turned, applied="lattice")
    assert "The fly-back was not fitted, as it was computed from another item" in result.caption


def test_what_was_smoothed_is_still_the_scan(project: Project, calibration_id: str) -> None:
    smooth = computed(project, project.add(described(pixels(80, 96))), "processing.gaussian_filter")
    (result,) = project.correct(smooth)
    assert project.computation(result).error_text is None
    ours = result.metadata["nion_distortion"]
    assert ours["calibration"]["id"] == calibration_id
    assert ours["altered"] is None


@pytest.mark.usefixtures("calibration_id")
def test_cropped_scan_has_no_calibration(project: Project) -> None:
    (result,) = project.correct(project.add(described(pixels(80, 64))))
    assert (
        "pixels (lines, columns) ((80, 96) there, (80, 64) here)"
        in project.computation(result).error_text
    )


@pytest.mark.usefixtures("calibration_id")
def test_old_calibration_has_aged_when_the_item_was_scanned(project: Project) -> None:
    now = described(pixels(80, 96))
    now._set_timestamp(datetime.datetime(2001, 9, 9))
    (result,) = project.correct(project.add(now))
    (frame,) = result.metadata["nion_distortion"]["frames"]
    assert frame["state"] == "ageing"
    assert "; ageing. The predicted error has grown " in result.caption


@pytest.mark.usefixtures("calibration_id")
def test_corrected_item_is_not_corrected_again(project: Project) -> None:
    (once,) = project.correct(project.add(described(pixels(80, 96))))
    (twice,) = project.correct(once)
    assert project.computation(twice).error_text == (
        "HAADF (corrected) was corrected already; correct the item that it was made from."
    )


@pytest.mark.usefixtures("calibration_id")
def test_what_was_recorded_as_scanned_is_corrected_as_the_scan_itself(project: Project) -> None:
    raw = pixels(80, 96)
    frame = Frame(
        image=raw,
        settings=SETTINGS,
        channel="HAADF",
        time_s=0.0,  # when the model learnt
        provenance={"metadata": metadata_of(SETTINGS), "intensity_units": "e"},
    )
    (result,) = project.correct(project.add(scanned_xdata(frame)))
    assert not project.computation(result).error_text
    assert_corrected(result.data, raw)
