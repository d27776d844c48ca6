"""Freed memory that a process keeps."""

import subprocess
import sys

import pytest

REPEATED = """
import resource
from nion_distortion._memory import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def frame():
    return len([b"x" * 2**25, b"x" * 2**25])
frame()
before = faults()
frame()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_the_next_frame_uses_the_memory_of_the_one_before() -> None:
    """Without it each of the arrays is cleared anew: 8192 pages, or 16 large ones."""
    found = subprocess.run(
        [sys.executable, "-c", REPEATED], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 10
