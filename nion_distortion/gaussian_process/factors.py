"""Cholesky factors and inverses by LAPACK, in place and without Python's lock.

SciPy's own wrappers hold the lock, so that two threads take turns; its routines, called by their
addresses, do not. A row of an array is a column to them: their lower triangle is the upper one
here.
"""

import ctypes
from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import get_cython_function_address

__all__ = [
    "cleared",
    "divide",
    "eliminate",
    "factorise",
    "invert",
    "inverted",
    "mirrored",
    "reduce",
    "subtract_square",
]

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
DTRSV, DSYRK = _routine("blas", "dtrsv", 8), _routine("blas", "dsyrk", 10)


def factorise(matrix: Array) -> Array:
    """Replace a symmetric positive matrix by its Cholesky factor.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        With contiguous rows; its upper triangle is read and overwritten with U, where
        ``matrix = U^T U``.

    Returns
    -------
    ndarray, shape (n, n)
        The same array.

    Raises
    ------
    LinAlgError
        If the matrix is not positive.
    """
    failed = ctypes.c_int()
    if not len(matrix):
        return matrix
    DPOTRF(_letter("L"), _whole(len(matrix)), *_array(matrix), ctypes.byref(failed))
    if failed.value:
        raise np.linalg.LinAlgError("the information of the weights is not positive")
    return matrix


def eliminate(matrix: Array, count: int) -> Array:
    """Factorise the first rows of a symmetric positive matrix, and take them out of the others.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        With contiguous rows; its upper triangle is read and overwritten. In its first rows stand
        those of U, in the others the Schur complement: with `factorise` of that, all of U.
    count : int
        How many of the first rows.

    Returns
    -------
    ndarray, shape (n - count, n - count)
        The Schur complement, where it stands in the matrix.

    Raises
    ------
    LinAlgError
        If the first rows are not those of a positive matrix.
    """
    rest, between = matrix[count:, count:], matrix[:count, count:]
    reduce(between, factorise(matrix[:count, :count]))
    subtract_square(rest, between)
    return rest


def reduce(columns: Array, factor: Array, *, transposed: bool = False) -> Array:
    """Replace columns by ``U^-T columns``, or by ``U^-1 columns``.

    Parameters
    ----------
    columns : ndarray, shape (n, k)
        With contiguous rows; overwritten.
    factor : ndarray, shape (n, n)
        U, in its upper triangle.
    transposed : bool, default: False
        Whether by the inverse of U, not of its transpose.

    Returns
    -------
    ndarray, shape (n, k)
        The same array.
    """
    if columns.size:
        how = _letter("R"), _letter("L"), _letter("N" if transposed else "T"), _letter("N")
        shape = _whole(columns.shape[1]), _whole(columns.shape[0])
        DTRSM(*how, *shape, _real(1.0), *_array(factor), *_array(columns))
    return columns


def subtract_square(matrix: Array, rows: Array) -> None:
    """Subtract ``rows^T rows`` from the upper triangle of a matrix.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        With contiguous rows; overwritten.
    rows : ndarray, shape (k, n)
        Each contiguous.
    """
    if rows.size:
        shape, how = (_whole(rows.shape[1]), _whole(rows.shape[0])), (_letter("L"), _letter("N"))
        DSYRK(*how, *shape, _real(-1.0), *_array(rows), _real(1.0), *_array(matrix))


def divide(rows: Array, factor: Array, *, transposed: bool = False) -> Array:
    """Replace rows by ``rows U^-1``, or by ``rows U^-T``.

    Parameters
    ----------
    rows : ndarray, shape (k, n)
        Each contiguous; overwritten.
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
    how = _letter("L"), _letter("T" if transposed else "N"), _letter("N")
    if len(rows) == 1:
        DTRSV(*how, length, *_array(factor), _array(rows)[0], _whole(1))
    elif len(rows):
        DTRSM(_letter("L"), *how, length, count, _real(1.0), *_array(factor), *_array(rows))
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
    inverted(factor)
    DLAUUM(_letter("L"), _whole(len(factor)), *_array(factor), ctypes.byref(ctypes.c_int()))
    return factor


def inverted(factor: Array) -> Array:
    """Replace a Cholesky factor U by its own inverse.

    Parameters
    ----------
    factor : ndarray, shape (n, n)
        As `factorise` leaves it; its upper triangle is overwritten.

    Returns
    -------
    ndarray, shape (n, n)
        The same array.
    """
    _invert_triangle(factor.ctypes.data, len(factor), factor.strides[0] // BYTES)
    return factor


def mirrored(matrix: Array) -> Array:
    """Copy the upper triangle of a matrix to the lower one.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Its lower triangle is overwritten.

    Returns
    -------
    ndarray, shape (n, n)
        The same array.
    """
    _mirror(matrix)
    return matrix


def cleared(matrix: Array) -> Array:
    """Set the lower triangle of a matrix to zero.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        What is below its diagonal is overwritten.

    Returns
    -------
    ndarray, shape (n, n)
        The same array.
    """
    _clear(matrix)
    return matrix


@numba.njit(cache=True, nogil=True)
def _clear(matrix):  # type: ignore[no-untyped-def]
    for i in range(len(matrix)):
        for j in range(i):
            matrix[i, j] = 0.0


@numba.njit(cache=True, nogil=True)
def _mirror(matrix):  # type: ignore[no-untyped-def]
    """Copy the upper triangle to the lower one, in blocks that stay in the cache."""
    size = len(matrix)
    for top in range(0, size, 32):
        for left in range(0, top + 1, 32):
            for i in range(top, min(top + 32, size)):
                for j in range(left, min(left + 32, i)):
                    matrix[i, j] = matrix[j, i]


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


def _array(rows: Array) -> tuple[ctypes.c_void_p, object]:
    """Where the rows begin, and how far they are from each other."""
    if rows.strides[-1] != BYTES:
        raise ValueError("the numbers of a row must stand beside each other")
    return ctypes.c_void_p(rows.ctypes.data), _whole(rows.strides[0] // BYTES)


def _whole(number: int) -> object:
    return ctypes.byref(ctypes.c_int(number))


def _real(number: float) -> object:
    return ctypes.byref(ctypes.c_double(number))


def _letter(letter: str) -> object:
    return ctypes.byref(ctypes.c_char(letter.encode()))
