import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits


def _load_benchmarks() -> None:
    """Make the benchmarks importable, which are not installed.

    With the checkout on the path the tests would run its packages instead of the installed ones.
    """
    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    spec = spec_from_file_location(
        "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no benchmarks in {folder}")
    sys.modules["benchmarks"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


_load_benchmarks()


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """As whoever runs the live loop does: pools of two BLAS libraries slow each other down."""
    with threadpool_limits(1):
        yield
