from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """As whoever runs the live loop does: pools of two BLAS libraries slow each other down."""
    with threadpool_limits(1):
        yield
