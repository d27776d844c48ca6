from itertools import product

import numpy as np
import pytest

from simulator.column_shapes import RADIUS_NM, column_profiles, unit_cells
from simulator.specimen import make_specimen


@pytest.mark.parametrize("name", list(unit_cells()))
def test_simulated_cells_have_the_specimens_columns(name: str) -> None:
    cell, specimen = unit_cells()[name], make_specimen(name)
    size = np.array(cell.size_nm[:2])
    for kind, places in enumerate(cell.columns):
        away = np.array(places) * size - np.array(cell.columns[0][0]) * size
        cells = away @ np.linalg.inv(specimen.basis_nm) - specimen.motif[kind]
        np.testing.assert_allclose(cells, np.rint(cells), atol=1e-9)
    areas = len(cell.columns[0]) * abs(np.linalg.det(specimen.basis_nm)) / size.prod()
    assert areas == pytest.approx(1)


@pytest.mark.parametrize("name", list(unit_cells()))
def test_each_column_of_a_simulated_cell_holds_an_atom(name: str) -> None:
    cell = unit_cells()[name]
    atoms = np.array([atom[1:3] for atom in cell.atoms])
    for places in cell.columns:
        for place in places:
            away = (atoms - place + 0.5) % 1 - 0.5
            assert np.abs(away).max(axis=1).min() < 1e-9


def test_columns_that_are_gaussians_are_taken_apart_into_blurred_gaussians() -> None:
    cell = unit_cells()["sto_001"]
    own_nm, heights = np.array([0.034, 0.030]), np.array([1.0, 0.4])
    y, x = np.meshgrid(*[np.arange(16) / 16 * 0.3905] * 2, indexing="ij")
    image = np.full(y.shape, 0.1)
    for shift in 0.3905 * np.array(list(product(range(-2, 3), repeat=2))):
        for kind, centre in enumerate((0.0, 0.19525)):
            square = (y - centre - shift[0]) ** 2 + (x - centre - shift[1]) ** 2
            image += heights[kind] * np.exp(-0.5 * square / own_nm[kind] ** 2)
    profile, peak, width = column_profiles(cell, image)
    blurred_nm = np.hypot(own_nm, cell.source_nm)
    np.testing.assert_allclose(width, blurred_nm, rtol=0.01)
    np.testing.assert_allclose(peak, heights * (own_nm / blurred_nm) ** 2, rtol=0.02)
    expected = np.exp(-0.5 * (RADIUS_NM / blurred_nm[:, None]) ** 2)
    np.testing.assert_allclose(profile, expected, atol=0.01)
