import datetime
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from nion.swift.model.HDF5Handler import HDF5Handler
from nion.swift.model.NDataHandler import NDataHandler
from rsciio import emd, hspy

from nion_distortion.cli import main
from nion_distortion.correction import SIGN_CONVENTION, CorrectedFrame
from nion_distortion.files import read_frames, write_corrected
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.swift import source

DATA = Path(__file__).resolve().parents[2] / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real micrographs are not here")


def picture(ny: int = 16, nx: int = 16, frames: int = 0) -> npt.NDArray[np.float32]:
    shape = (frames, ny, nx) if frames else (ny, nx)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def save_npy(folder: Path, array: npt.NDArray[Any], **settings: object) -> Path:
    path = folder / "stack.npy"
    np.save(path, array)
    if settings:
        (folder / "stack.json").write_text(json.dumps(settings))
    return path


def save_hspy(path: Path, array: npt.NDArray[Any], scale: float, unit: str) -> Path:
    axis = {"scale": scale, "offset": 0.0, "units": unit}
    axes = [
        axis | {"name": name, "size": size, "navigate": name == "t"}
        for name, size in zip("tyx"[-array.ndim :], array.shape, strict=True)
    ]
    signal: dict[str, Any] = {"data": array, "axes": axes, "metadata": {"General": {"title": ""}}}
    empty = ("original_metadata", "learning_results", "attributes", "models", "tmp_parameters")
    signal |= {name: {} for name in (*empty, "package_info")} | {"attributes": {"_lazy": False}}
    hspy.file_writer(str(path), signal)
    return path


@pytest.fixture
def corrected() -> CorrectedFrame:
    settings = ScanSettings(shape_px=(16, 20), field_of_view_nm=0.4, dwell_time_us=2.0)
    valid = np.ones((16, 20), dtype=bool)
    valid[:, 0] = False
    return CorrectedFrame(
        image=picture(16, 20),
        valid=valid,
        std_px=np.full((2, 16, 20), 0.25, dtype=np.float32),
        displacement_px=np.full((2, 16, 20), 1.5, dtype=np.float32),
        pixel_size_nm=0.02,
        settings=settings,
        frame_id="scan/7",
        channel="HAADF",
        provenance={"title": "STO", "correction": {"kind": "frame", "terms": ("smooth",)}},
    )


def test_every_frame_of_a_stack_is_read_with_its_own_identity(tmp_path: Path) -> None:
    stack = picture(frames=3)
    frames = read_frames(save_npy(tmp_path, stack), 1.6)
    assert len(frames) == 3
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, stack[index])
        assert frame.index == index
    assert len({frame.frame_id for frame in frames}) == 3
    assert all(frame.frame_id for frame in frames)
    np.testing.assert_array_equal(frames[-1].image, stack[2])
    assert [frame.index for frame in frames[1:]] == [1, 2]
    with pytest.raises(IndexError, match="no frame 3"):
        frames[3]


def test_the_same_file_elsewhere_has_the_same_identities(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = read_frames(save_npy(tmp_path, picture()), 1.6)[0]
    two = read_frames(save_npy(tmp_path / "other", picture()), 1.6)[0]
    three = read_frames(save_npy(tmp_path / "other", picture() + 1), 1.6)[0]
    assert one.frame_id == two.frame_id != three.frame_id


def test_only_the_wanted_frame_of_a_stack_is_read(tmp_path: Path) -> None:
    path = save_npy(tmp_path, picture(frames=3))
    frames = read_frames(path, 1.6)
    with path.open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(np.float32(-7).tobytes())
    assert frames[2].image[-1, -1] == -7


def test_settings_beside_an_array_come_back(tmp_path: Path) -> None:
    settings = ScanSettings(
        shape_px=(16, 16), field_of_view_nm=1.6, dwell_time_us=2.0, flyback_time_us=30.0,
        line_sync=True, rotation_rad=0.1, device_id="scan", extra=(("beam_lag", 3),),
    )  # fmt: skip
    frame = read_frames(save_npy(tmp_path, picture(), **asdict(settings)))[0]
    assert frame.settings == settings
    wider = read_frames(tmp_path / "stack.npy", 3.2)[0]
    assert wider.settings.differences(settings) == ("field_of_view_nm",)


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("nm", 1), ("\u00c5", 0.1), ("A", 0.1), ("pm", 1e-3), ("\u00b5m", 1e3), ("\u03bcm", 1e3),
     ("um", 1e3), ("m", 1e9)],
)  # fmt: skip
def test_every_length_unit_gives_the_same_pixel_size(tmp_path: Path, unit: str, nm: float) -> None:
    path = save_hspy(tmp_path / "image.hspy", picture(), 0.02 / nm, unit)
    assert read_frames(path)[0].settings.pixel_size_nm == pytest.approx(0.02)


def test_a_hyperspy_stack_is_read_frame_by_frame(tmp_path: Path) -> None:
    stack = picture(frames=4)
    frames = read_frames(save_hspy(tmp_path / "stack.hspy", stack, 0.02, "nm"))
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[3].image, stack[3])


def test_an_ncem_emd_stack_is_read_frame_by_frame(tmp_path: Path) -> None:
    stack = picture(frames=4)
    axis = {"scale": 0.02, "offset": 0.0, "units": "nm", "_type": "UniformDataAxis"}
    axes = [
        axis | {"name": name, "size": size, "navigate": name == "t", "is_binned": False}
        for name, size in zip("tyx", stack.shape, strict=True)
    ]
    metadata = {"General": {"title": "HAADF", "user": ""}, "Signal": {}}
    signal = {"data": stack, "axes": axes, "metadata": metadata, "original_metadata": {}}
    emd.file_writer(str(tmp_path / "stack.emd"), signal | {"attributes": {"_lazy": False}})
    frames = read_frames(tmp_path / "stack.emd")
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[3].image, stack[3])
    assert frames[3].settings.pixel_size_nm == pytest.approx(0.02)


def test_a_tiff_stack_is_read_frame_by_frame(tmp_path: Path) -> None:
    stack = picture(frames=3)
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "TYX"})
    frames = read_frames(tmp_path / "stack.tif", 1.6)
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[1].image, stack[1])


def test_a_calibrated_tiff_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, picture(), imagej=True, resolution=(50.0, 50.0), metadata={"unit": "nm"})
    frame = read_frames(path)[0]
    np.testing.assert_array_equal(frame.image, picture())
    assert frame.settings.pixel_size_nm == pytest.approx(0.02)


def test_a_plain_tiff_needs_the_field_of_view(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, picture(24, 16))
    with pytest.raises(ValueError, match=r"image.tif has no pixel size; give the field of view"):
        read_frames(path)
    assert read_frames(path, 2.4)[0].settings.pixel_size_nm == pytest.approx(0.1)


REPORTED: dict[str, Any] = {
    "pixel_size": (16, 20), "fov_nm": 0.4, "pixel_time_us": 2.0, "flyback_pixels": 15,
    "rotation_deg": 30.0, "center_nm": (1.0, 2.0), "ac_line_sync": True, "ac_frame_sync": False,
    "beam_lag_us": 0.4, "blanker": {"mode": [1, 2]},
}  # fmt: skip
SUBSCAN: dict[str, Any] = {
    "pixel_size": (32, 40), "fov_nm": 0.8, "subscan_pixel_size": (16, 20),
    "subscan_fractional_size": (0.5, 0.5), "subscan_fractional_center": (0.25, 0.5),
}  # fmt: skip


def swift_metadata(**changes: object) -> dict[str, Any]:
    device = {name: value for name, value in (REPORTED | changes).items() if value is not None}
    return {
        "instrument": {"high_tension": 100000.0},
        "scan": {"hardware_source_id": "superscan", "scan_device_properties": device},
        "hardware_source": {"pixel_time_us": 2.0, "line_time_us": 40.0, "channel_name": "HAADF"},
    }


def save_swift(
    path: Path,
    array: npt.NDArray[Any],
    metadata: dict[str, Any],
    *,
    unit: str = "nm",
    scale: float = 0.02,
    title: str = "HAADF scan",
) -> Path:
    now = datetime.datetime(2026, 1, 1)
    stored = (HDF5Handler if path.suffix == ".h5" else NDataHandler)(path)
    stored.write_data(array, now)
    axes = [{"offset": 0.0, "scale": scale, "units": unit}] * 2
    properties = {"title": title, "dimensional_calibrations": axes, "metadata": metadata}
    stored.write_properties(properties, now)
    stored.close()
    return path


def read_swift(folder: Path, array: npt.NDArray[Any], how: Any = None, **changes: object) -> Frame:
    path = save_swift(folder / "item.ndata", array, swift_metadata(**changes), **(how or {}))
    return read_frames(path)[0]


@pytest.mark.parametrize("suffix", [".h5", ".ndata"])
def test_an_item_of_nion_swift_tells_its_scan(tmp_path: Path, suffix: str) -> None:
    path = save_swift(tmp_path / f"item{suffix}", picture(16, 20), swift_metadata())
    frame = read_frames(path)[0]
    np.testing.assert_array_equal(frame.image, picture(16, 20))
    assert frame.channel == "HAADF"
    assert frame.altered is None
    assert frame.settings == ScanSettings(
        shape_px=(16, 20), field_of_view_nm=0.4, dwell_time_us=2.0, flyback_time_us=30.0,
        line_time_us=70.0, high_tension_v=1e5, line_sync=True, frame_sync=False,
        rotation_rad=np.pi / 6, device_id="superscan",
        extra=(("beam_lag_us", 0.4), ("blanker", (("mode", (1, 2)),))),
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flyback_time_us": 0.0, "flyback_pixels": None},
        {"flyback_time_us": 31.0},
        {"line_time_us": 75.0, "rotation_rad": 0.1},
        {"pixel_time_us": None, "ac_line_sync": None},
        SUBSCAN,
    ],
)
def test_a_saved_item_has_the_settings_of_its_live_scan(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    saved = read_swift(tmp_path, picture(16, 20), **changes).settings
    assert saved == source.scan_settings(swift_metadata(**changes), (16, 20))


def test_an_item_that_only_the_host_described_tells_what_it_can(tmp_path: Path) -> None:
    old = {"scan": {"rotation": 0.25}, "hardware_source": {"pixel_time_us": 2.0}}
    frame = read_frames(save_swift(tmp_path / "item.ndata", picture(), old))[0]
    assert frame.settings == ScanSettings(
        shape_px=(16, 16), field_of_view_nm=0.32, dwell_time_us=2.0, rotation_rad=0.25
    )
    assert frame.altered is None


@pytest.mark.parametrize(("unit", "scale"), [("", 1.0), ("pm", 20.0)])
def test_an_items_own_calibration_may_agree_or_be_absent(
    tmp_path: Path, unit: str, scale: float
) -> None:
    frame = read_swift(tmp_path, picture(16, 20), {"unit": unit, "scale": scale})
    assert frame.settings.field_of_view_nm == 0.4


def test_an_item_that_was_calibrated_anew_keeps_that(tmp_path: Path) -> None:
    frame = read_swift(tmp_path, picture(16, 20), {"scale": 0.021})
    assert frame.settings.pixel_size_nm == pytest.approx(0.021)


def test_a_transform_of_a_scan_is_still_a_diffraction_pattern(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a diffraction pattern: its axes are in 1/nm"):
        read_swift(tmp_path, picture(16, 20), {"unit": "1/nm"})


@pytest.mark.parametrize(
    ("shape", "changes", "scanned"),
    [
        ((12, 20), {}, "16 x 20"),
        ((8, 10), {}, "16 x 20"),
        ((32, 40), {}, "16 x 20"),
        ((32, 40), SUBSCAN, "16 x 20"),
        ((16, 18), SUBSCAN, "16 x 20"),
    ],
)
def test_a_part_of_a_scan_is_marked_as_altered(
    tmp_path: Path, shape: tuple[int, int], changes: dict[str, Any], scanned: str
) -> None:
    frame = read_swift(tmp_path, picture(*shape), **changes)
    assert frame.altered == f"it was cropped or binned: the scan had {scanned} pixels"
    assert frame.settings.pixel_size_nm == pytest.approx(0.02)
    narrower = shape[1] <= 20
    assert frame.settings.line_time_us == (70.0 if narrower else None)


def test_a_filtered_item_is_marked_by_its_title(tmp_path: Path) -> None:
    frame = read_swift(tmp_path, picture(16, 20), {"title": "HAADF (Gaussian Filter)"})
    assert frame.altered == 'its title says "filter"'


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({name: 2}, f"the beam did not scan line by line ({name} is 2), so the time of each pixel "
                    "is not known and nothing can be corrected")
        for name in ("external_scan_mode", "serpentine", "interlaced", "snake_scan")
    ] + [({"calibration_style": "time"},
          "the scan was made in time, not in space; it shows no crystal"),
         ({"pixel_size": (32, 40), "subscan_pixel_size": (12, 20)},
          "the pixels of the sub-scan are 26.7 pm high and 20.0 pm wide; only square pixels can be "
          "corrected")],
)  # fmt: skip
def test_a_scan_that_is_no_raster_of_square_pixels_is_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read_swift(tmp_path, picture(12, 20), **changes)


def test_a_scan_that_is_declared_a_raster_is_read_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_swift(tmp_path / "item.ndata", picture(64, 80), swift_metadata(serpentine=True))
    frame = read_frames(path, is_raster=True)[0]
    assert ("serpentine", True) in frame.settings.extra
    assert "serpentine is True" in frame.provenance["declared a raster although"]
    assert main(["correct", str(path)]) == 2
    assert "nothing can be corrected (--raster if it did)\n" in capsys.readouterr().err
    assert main(["correct", str(path), "--raster", "--out", str(tmp_path / "out")]) == 2
    assert "line by line" not in capsys.readouterr().err  # but that is no picture of a crystal


@needs_data
def test_the_description_beside_a_series_gives_its_times() -> None:
    frame = read_frames(DATA / "sto/16_STOimage_1.ser")[0]
    settings = frame.settings
    assert settings.shape_px == (1024, 1024)
    assert settings.pixel_size_nm == pytest.approx(0.0100127, rel=1e-5)
    assert settings.dwell_time_us == pytest.approx(29.0)
    assert settings.line_time_us == pytest.approx(36.4904e6 / 1024)
    assert settings.high_tension_v == 80_000
    assert frame.provenance["magnification"] == "13500000 X"
    assert "altered" not in frame.provenance


@needs_data
def test_digiscan_tags_give_the_scan() -> None:
    settings = read_frames(DATA / "grain_boundary/HAADF26.dm3")[0].settings
    assert settings.pixel_size_nm == pytest.approx(0.0202168, rel=1e-5)
    assert settings.dwell_time_us == pytest.approx(63.6)
    assert settings.flyback_time_us == 700.0
    assert settings.line_sync is True
    assert settings.high_tension_v == 200_000


@needs_data
@pytest.mark.parametrize(
    ("name", "why"),
    [("BTO_crystal_1.dm4", "title says"), ("Cropped_PTO-SRO_Aligned.hspy", "2048 x 2048")],
)
def test_an_image_that_is_no_whole_scan_is_marked(name: str, why: str) -> None:
    assert why in read_frames(DATA / "perovskite" / name)[0].provenance["altered"]


@needs_data
def test_two_channels_of_one_scan_are_read_with_a_given_field_of_view() -> None:
    for name in ("test_ADF_cropped.hdf5", "test_ABF_cropped.hdf5"):
        frame = read_frames(DATA / "perovskite" / name, 3.73)[0]
        assert frame.image.shape == (400, 380)
        assert frame.settings.pixel_size_nm == pytest.approx(3.73 / 400)


BAD_ARRAYS: dict[str, npt.NDArray[Any]] = {
    "no pixel size": picture(),
    "complex": picture() + 1j,
    "one axis": np.arange(64.0),
    "four axes": np.zeros((2, 2, 16, 16)),
    "colour": np.zeros((16, 16, 3), dtype=np.uint8),
    "text": np.full((16, 16), "a"),
    "spectrum image": np.zeros((16, 16, 4), np.float32),
    "no frames": np.zeros((0, 16, 16)),
    "small": np.zeros((4, 16)),
    "huge": np.broadcast_to(np.uint8(0), (20_000, 8)),
}
BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "settings for another shape": {"shape_px": [32, 32], "field_of_view_nm": 1.0},
    "unknown setting": {"field_of_view_nm": 1.0, "colour": "red"},
    "line too short": {"field_of_view_nm": 1.0, "dwell_time_us": 2.0, "line_time_us": 20.0},
}


def save_not_square(path: Path) -> None:
    save_hspy(path, picture(), 0.02, "nm")
    with h5py.File(path, "r+") as store:
        (experiment,) = store["Experiments"].values()
        experiment["axis-0"].attrs["scale"] = 0.03


def save_truncated(path: Path) -> None:
    np.save(path, picture())
    path.write_bytes(path.read_bytes()[:-100])


def save_unequal(path: Path) -> None:
    frames = np.empty(2, dtype=object)
    frames[:] = [np.zeros((16, 16)), np.zeros((16, 20))]
    np.save(path, frames)


BAD_FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("stack.npy", lambda _: None),
    "folder": ("stack.npy", Path.mkdir),
    "empty": ("stack.npy", Path.touch),
    "truncated": ("stack.npy", save_truncated),
    "objects": ("stack.npy", save_unequal),
    "words": ("stack.npy", lambda path: path.write_text("no array at all\n" * 9)),
    "unknown format": ("stack.doc", lambda path: path.write_text("words")),
    "not square": ("stack.hspy", save_not_square),
    "diffraction": ("stack.hspy", lambda path: save_hspy(path, picture(), 0.02, "1/nm")),
}


def bad_file(folder: Path, kind: str) -> Path:
    """Write a file that cannot be measured."""
    if kind in BAD_FILES:
        name, write = BAD_FILES[kind]
        write(folder / name)
        return folder / name
    return save_npy(folder, BAD_ARRAYS.get(kind, picture()), **BAD_SETTINGS.get(kind, {}))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "stack.npy does not exist"),
        ("folder", "is not a file"),
        ("empty", "stack.npy is empty"),
        ("unknown format", "stack.doc has no known format; known are DM3, DM4"),
        ("truncated", "stack.npy cannot be read, it may be damaged or cut short"),
        ("words", "stack.npy cannot be read, it may be damaged or cut short"),
        ("objects", "stack.npy holds Python objects: its frames differ in size, or are no numbers"),
        ("spectrum image", "from 8 to 16384 a side can be read; it looks like a spectrum image"),
        ("no pixel size", "stack.npy has no pixel size; give the field of view"),
        ("complex", "stack.npy holds complex numbers; an image of real numbers is needed"),
        ("one axis", "stack.npy has 1 axes; an image has 2 and a stack of images 3"),
        ("four axes", "stack.npy has 4 axes; an image has 2 and a stack of images 3"),
        ("colour", "stack.npy is a colour picture; the detector's own values are needed"),
        ("text", "stack.npy holds <U1, not numbers"),
        ("no frames", "stack.npy holds no pixels"),
        ("small", "stack.npy has frames of 4 x 16 pixels; from 8 to 16384 a side can be read"),
        ("huge", "stack.npy has frames of 20000 x 8 pixels; from 8 to 16384 a side can be read"),
        ("not square", "stack.hspy has pixels of 0.03 nm by 0.02 nm; they must be square"),
        ("diffraction", "stack.hspy is a diffraction pattern: its axes are in 1/nm"),
        ("settings for another shape", "frames of (16, 16) pixels, but its settings say otherwise"),
        ("unknown setting", "stack.json names 'colour', which is no scan setting"),
        ("line too short", "a line of 16 pixels of 2 us does not fit into a line time of 20 us"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    tmp_path: Path, kind: str, sentence: str
) -> None:
    path = bad_file(tmp_path, kind)
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        read_frames(path)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)  # the command's arguments are the command's business


@pytest.mark.parametrize("kind", ["truncated", "words"])
def test_what_a_library_says_of_a_damaged_file_stands_in_the_traceback_only(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(ValueError, match=r"it may be damaged or cut short$") as caught:
        read_frames(bad_file(tmp_path, kind))
    assert str(caught.value.__cause__)


@needs_data
@pytest.mark.parametrize(
    "name",
    ["sto/16_STOimage_1.ser", "grain_boundary/HAADF26.dm3", "perovskite/BTO_crystal_1.dm4",
     "perovskite/Cropped_PTO-SRO_Aligned.hspy"],
)  # fmt: skip
@pytest.mark.parametrize("kept", [0.001, 0.3, 0.9])
def test_a_file_cut_short_is_refused_in_one_sentence(
    tmp_path: Path, name: str, kept: float
) -> None:
    whole = (DATA / name).read_bytes()
    path = tmp_path / Path(name).name
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"cut short|not complete") as caught:
        read_frames(path)[0]
    assert "\n" not in str(caught.value)


def test_a_corrected_frame_is_readable_by_hyperspys_reader(
    tmp_path: Path, corrected: CorrectedFrame
) -> None:
    path = write_corrected(tmp_path / "corrected.hspy", corrected)
    (signal,) = hspy.file_reader(str(path))
    np.testing.assert_array_equal(signal["data"], corrected.image)
    assert signal["data"].dtype == np.float32
    for axis in signal["axes"]:
        assert axis["scale"] == pytest.approx(0.02)
        assert axis["units"] == "nm"
    ours = signal["metadata"]["nion_distortion"]
    np.testing.assert_array_equal(ours["valid"], corrected.valid)
    np.testing.assert_array_equal(ours["std_px"], corrected.std_px)
    assert ours["sign_convention"] == SIGN_CONVENTION
    assert ours["frame_id"] == "scan/7"
    np.testing.assert_array_equal(ours["displacement_px"], corrected.displacement_px)
    assert ours["provenance"]["title"] == "STO"
    assert ours["provenance"]["correction"]["kind"] == "frame"


def test_a_corrected_frame_read_again_has_its_settings(
    tmp_path: Path, corrected: CorrectedFrame
) -> None:
    path = write_corrected(tmp_path / "corrected.hspy", corrected)
    frame = read_frames(path)[0]
    np.testing.assert_array_equal(frame.image, corrected.image)
    assert frame.settings == corrected.settings


def test_a_result_never_replaces_the_frames_own_file(
    tmp_path: Path, corrected: CorrectedFrame
) -> None:
    path = save_npy(tmp_path, picture())
    before = path.read_bytes()
    corrected = replace(corrected, provenance={"file": str(path)})
    with pytest.raises(ValueError, match="it is never overwritten"):
        write_corrected(path, corrected, overwrite=True)
    assert path.read_bytes() == before


def test_an_earlier_result_is_replaced_only_when_asked(
    tmp_path: Path, corrected: CorrectedFrame
) -> None:
    path = write_corrected(tmp_path / "corrected.hspy", corrected)
    corrected = replace(corrected, image=corrected.image + 1)
    with pytest.raises(ValueError, match="exists already"):
        write_corrected(path, corrected)
    write_corrected(path, corrected, overwrite=True)
    np.testing.assert_array_equal(read_frames(path)[0].image, corrected.image)


def test_a_missing_folder_is_said_in_one_sentence(
    tmp_path: Path, corrected: CorrectedFrame
) -> None:
    with pytest.raises(ValueError, match=r"cannot be written: No such file or directory$"):
        write_corrected(tmp_path / "nowhere" / "corrected.hspy", corrected)


def test_a_full_disk_leaves_the_earlier_result_and_no_rest(
    tmp_path: Path, corrected: CorrectedFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_corrected(tmp_path / "corrected.hspy", corrected)
    before = path.read_bytes()

    def no_room(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(ValueError, match=r"cannot be written: No space left on device$"):
        write_corrected(path, corrected, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
