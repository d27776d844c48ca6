"""What the repository promises: README, pins, licence, and that the installed package is tested."""

import configparser
import importlib
import os
import pkgutil
import re
import site
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import fields, is_dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import nion_distortion
import simulator
from benchmarks.results import RESULTS, in_readme
from nion_distortion.frame import ScanSettings
from simulator.microscope import Microscope
from simulator.scan import ScanErrors
from simulator.specimen import make_specimen

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = Path(sysconfig.get_paths()["purelib"]) in Path(nion_distortion.__file__).parents

SET_UP = (
    "pip install . -c constraints.txt && nion-distortion demo",
    'pip install ".[test]" -c constraints.txt && pytest',
)


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def requirements(section: str, option: str) -> dict[str, Requirement]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = parser[section][option].split("\n")
    wanted = [Requirement(line) for line in lines if line.strip()]
    return {normal(one.name): one for one in wanted}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="outside CI the checkout may be tested")
def test_the_installed_package_is_what_is_tested() -> None:
    for package in (nion_distortion, simulator):
        home = Path(package.__file__ or "").parents[1]
        assert str(home) in site.getsitepackages()
        assert ROOT not in home.parents or ".venv" in home.parts


def test_readme_sets_up_in_two_commands_and_ci_runs_one_of_them() -> None:
    lines = readme().splitlines()

    assert all(command in lines for command in SET_UP)
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert 'bash -c "$test_command"' in script


def test_what_the_documents_point_to_is_there() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/decisions.md"):
        document = ROOT / name
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), target


def test_all_that_is_asked_for_is_pinned_within_its_range() -> None:
    wanted = requirements("options", "install_requires")
    for extra in ("swift", "test", "dev"):
        wanted |= requirements("options.extras_require", extra)

    pinned = pins()

    assert set(wanted) <= set(pinned)
    for name, requirement in wanted.items():
        assert requirement.specifier.contains(pinned[name]), str(requirement)


def test_torch_is_the_version_that_has_a_small_build() -> None:
    assert pins()["torch"] == "2.13.0"


def test_ranges_leave_an_existing_nion_swift_environment_as_it_is() -> None:
    # what pip finds with Nion Swift 16.16.2 and its instrumentation kit
    existing = {
        "nionswift": "16.16.2",
        "nionswift-instrumentation": "23.6.2",
        "nionutils": "4.14.1",
        "numpy": "2.0.0",
        "scipy": "1.14.1",
        "h5py": "3.12.1",
    }

    wanted = requirements("options", "install_requires")

    for name, version in existing.items():
        assert wanted[name].specifier.contains(version), name


def test_licence_is_the_whole_gpl() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")

    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_version_stands_in_one_place_and_the_plug_ins_follow() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    manifests = sorted(ROOT.glob("nionswift_plugin/*/manifest.json"))

    assert len(manifests) == 2
    for manifest in manifests:
        assert f'"version": "{parser["metadata"]["version"]}"' in manifest.read_text("utf-8")


@pytest.mark.skipif(not INSTALLED, reason="the checkout is tested, not an installed package")
def test_the_wheel_has_everything_and_nothing_else() -> None:
    files = distribution("nion-distortion").files or []
    names = {str(file) for file in files if ".dist-info" not in str(file)}
    tops = {name.split("/")[0] for name in names if not name.startswith("..")}

    assert {
        "nion_distortion/py.typed",
        "simulator/py.typed",
        "simulator/column_shapes.npz",
        "nionswift_plugin/nion_distortion/manifest.json",
        "nionswift_plugin/nion_distortion_simulator/manifest.json",
    } <= names
    assert tops == {"nion_distortion", "nionswift_plugin", "simulator"}
    assert "nionswift_plugin/__init__.py" not in names
    for package in ("nion_distortion", "simulator", "nionswift_plugin"):
        tracked = {str(p.relative_to(ROOT).as_posix()) for p in ROOT.glob(f"{package}/**/*.py")}
        assert tracked <= names


def public_dataclasses() -> dict[str, type]:
    found = {}
    for package in (nion_distortion, simulator):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.rsplit(".")[-1] in ("__main__", "column_shapes"):
                continue  # one runs, the other needs abTEM
            loaded = importlib.import_module(module.name)
            for name in getattr(loaded, "__all__", ()):
                value = getattr(loaded, name)
                if isinstance(value, type) and is_dataclass(value) and fields(value):
                    found[f"{value.__module__}.{name}"] = value
    return found


def test_docstrings_of_dataclasses_name_their_fields() -> None:
    # numpydoc's static check does not know that a dataclass takes its fields as arguments
    for name, kind in public_dataclasses().items():
        section = re.search(
            r"Parameters\n\s+-+\n(.*?)(\n\s*\n\s+\w+\n\s+---|\Z)", kind.__doc__ or "", re.S
        )
        assert section, name
        named = [
            part.strip()
            for line in section.group(1).splitlines()
            if (head := re.match(r"    ([\w, ]+) : ", line))
            for part in head.group(1).split(",")
        ]
        assert set(named) == {item.name for item in fields(kind) if item.init}, name


def test_python_versions_are_the_same_everywhere() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")

    assert parser["options"]["python_requires"] == ">=3.11"
    assert tools["tool"]["ruff"]["target-version"] == "py311"
    assert 'python: ["3.11", "3.12", "3.13"]' in workflow
    assert "ot run so far" in workflow


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, nion_distortion; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )

    loaded = set(done.stdout.split())

    assert "nion_distortion" in loaded
    assert not loaded & {"numpy", "scipy", "torch", "gpytorch", "sklearn", "numba", "cv2", "nion"}


def test_numbers_in_the_readme_are_those_of_the_results() -> None:
    results = RESULTS.read_text(encoding="utf-8")

    assert readme() == in_readme(readme(), results)


def test_the_lines_of_use_do_what_the_readme_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ScanSettings(shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0)
    errors = ScanErrors(smooth_nm=0.05, seed=2)
    reference, other = (
        Microscope(make_specimen(name, seed=4), errors).shot(settings).frame
        for name in ("sto_001", "pto_sto")
    )
    monkeypatch.setattr(nion_distortion, "read_frames", lambda _: [reference], raising=False)
    first, second = re.findall(r"```python\n(.*?)```", readme(), re.DOTALL)
    names: dict[str, Any] = {"other_frame": other}

    exec(first, names)
    exec(second, names)

    assert re.fullmatch(r"off by \d+\.\d pm, now \d+\.\d pm\n", capsys.readouterr().out)
    assert names["corrected"].image.shape == (256, 256)
    assert names["other"].unusable is None
    assert names["other"].field.kind == "stationary"
