"""What ``import nion_distortion`` gives, and what it costs."""

import ast
import importlib.resources
import inspect
import pickle
import subprocess
import sys

import pytest

import nion_distortion as nd

HEAVY = ("torch", "gpytorch", "sklearn", "scipy", "numba", "cv2", "numpy", "matplotlib", "rsciio")

LATER = ("process_stack",)


@pytest.mark.parametrize("name", nd.__all__)
def test_every_public_name_is_there(name: str) -> None:
    thing = getattr(nd, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing)
    assert thing.__module__.startswith("nion_distortion.")
    assert pickle.loads(pickle.dumps(thing)) is thing


def test_dir_lists_the_public_names() -> None:
    assert sorted(nd.__all__) == dir(nd)


@pytest.mark.parametrize("name", LATER)
def test_a_name_whose_issue_has_not_come_is_absent(name: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(nd, name)


@pytest.mark.parametrize("name", sorted(set(nd.__all__) - {"UnusableFrameError", "Estimate"}))
def test_arguments_are_documented(name: str) -> None:
    thing = getattr(nd, name)
    text = inspect.getdoc(thing) or ""
    for argument in inspect.signature(thing).parameters:
        assert f"{argument} :" in text, f"{name} does not explain {argument}"


def test_type_checkers_see_the_same_names_in_the_same_modules() -> None:
    imports = [
        (alias.asname, node.module)
        for node in ast.walk(ast.parse(inspect.getsource(nd)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nion_distortion.")
        for alias in node.names
    ]
    assert dict(imports) == {name: f"nion_distortion.{home}" for name, home in nd._HOMES.items()}


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_the_import_costs_no_heavy_library() -> None:
    loaded = run(
        "import sys, nion_distortion\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    assert "nion_distortion" in loaded.split()
    assert not set(HEAVY) & set(loaded.split())


def test_a_name_loads_its_own_module_only() -> None:
    loaded = run(
        "import sys, nion_distortion\n"
        "nion_distortion.ScanSettings\n"
        "print(*sorted(name for name in sys.modules if name.startswith('nion_distortion.')))"
    )
    assert loaded.split() == ["nion_distortion._validation", "nion_distortion.frame"]


def test_processing_a_frame_needs_neither_torch_nor_a_plot() -> None:
    loaded = run(
        "import sys, nion_distortion\n"
        "nion_distortion.process_frame\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    assert not {"torch", "gpytorch", "matplotlib", "rsciio", "nion"} & set(loaded.split())


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files("nion_distortion").joinpath("py.typed").is_file()
