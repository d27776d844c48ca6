"""Cholesky factors and inverses by LAPACK, in place and without Python's lock.

SciPy's own wrappers hold the lock, so that two threads take turns; its routines, called by their
addresses, do not. A row of an array is a column to them: their lower triangle is the upper one
here.
"""

import ctypes
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numba.extending import get_cython_function_address

__all__ = ["divide", "factorise", "invert"]

Array = npt.NDArray[np.float64]
_Routine = Callable[..., None]

SMALLEST = 128
"""Triangles of at most so many rows are inverted by LAPACK itself, which is slow on larger ones."""

BYTES = np.dtype(np.float64).itemsize


def _routine(library: str, name: str, count: int) -> _Routine:
    address = get_cython_function_address(f"scipy.linalg.cython_{library}", name)
    routine: _Routine = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(address)
    return routine


DPOTRF, DTRTRI = _routine("lapack", "dpotrf", 5), _routine("lapack", "dtrtri", 6)
DLAUUM = _routine("lapack", "dlauum", 5)
DTRMM, DTRSM = _routine("blas", "dtrmm", 11), _routine("blas", "dtrsm", 11)


def factorise(matrix: Array) -> Array:
    """Replace a symmetric positive matrix by its Cholesky factor.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Contiguous; its upper triangle is read and overwritten with U, where ``matrix = U^T U``.

    Returns
    -------
    ndarray, shape (n, n)
        The same array.

    Raises
    ------
    LinAlgError
        If the matrix is not positive.
    """
    failed, size = ctypes.c_int(), _whole(len(matrix))
    DPOTRF(_letter("L"), size, _address(matrix), size, ctypes.byref(failed))
    if failed.value:
        raise np.linalg.LinAlgError("the information of the weights is not positive")
    return matrix


def divide(rows: Array, factor: Array, *, transposed: bool = False) -> Array:
    """Replace rows by ``rows U^-1``, or by ``rows U^-T``.

    Parameters
    ----------
    rows : ndarray, shape (k, n)
        Contiguous; overwritten.
    factor : ndarray, shape (n, n)
        U, in its upper triangle.
    transposed : bool, default: False
        Whether by its transpose.

    Returns
    -------
    ndarray, shape (k, n)
        The same array.
    """
    count, length = (_whole(size) for size in rows.shape)
    how = _letter("L"), _letter("L"), _letter("T" if transposed else "N"), _letter("N")
    both = _address(factor), length, _address(rows), length
    DTRSM(*how, length, count, _real(1.0), *both)
    return rows


def invert(factor: Array) -> Array:
    """Replace a Cholesky factor U by the inverse of ``U^T U``.

    Parameters
    ----------
    factor : ndarray, shape (n, n)
        As `factorise` leaves it; overwritten.

    Returns
    -------
    ndarray, shape (n, n)
        The same array; only its upper triangle holds the inverse.
    """
    size = len(factor)
    _invert_triangle(factor.ctypes.data, size, size)
    DLAUUM(_letter("L"), _whole(size), _address(factor), _whole(size), ctypes.byref(ctypes.c_int()))
    return factor


def _invert_triangle(first: int, size: int, stride: int) -> None:
    """Invert both halves of a triangle, then what is between them: nearly all is products."""
    lower, plain, step = _letter("L"), _letter("N"), _whole(stride)
    if size <= SMALLEST:
        here, failed = ctypes.c_void_p(first), ctypes.byref(ctypes.c_int())
        DTRTRI(lower, plain, _whole(size), here, step, failed)
        return
    half = size // 2
    second, between = first + BYTES * half * (stride + 1), first + BYTES * half
    _invert_triangle(first, half, stride)
    _invert_triangle(second, size - half, stride)
    shape = _whole(size - half), _whole(half)
    for side, sign, triangle in ((lower, -1.0, second), (_letter("R"), 1.0, first)):
        both = ctypes.c_void_p(triangle), step, ctypes.c_void_p(between), step
        DTRMM(side, lower, plain, plain, *shape, _real(sign), *both)


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _whole(number: int) -> object:
    return ctypes.byref(ctypes.c_int(number))


def _real(number: float) -> object:
    return ctypes.byref(ctypes.c_double(number))


def _letter(letter: str) -> object:
    return ctypes.byref(ctypes.c_char(letter.encode()))
