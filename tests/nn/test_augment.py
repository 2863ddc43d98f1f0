"""Rotations and shifts against whole-pixel shifts, quarter turns and SciPy; what comes from outside is the border."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from robust_cluster.nn.augment import affine, random_affine


@pytest.fixture
def images() -> Tensor:
    """5 images of 2 channels, 8 x 12 pixels, in [0, 1]."""
    return torch.rand(5, 2, 8, 12, generator=torch.Generator().manual_seed(0))


def same(n: int, angle: float = 0.0, right: float = 0.0, down: float = 0.0) -> tuple[Tensor, Tensor]:
    """Angles and shifts of n images that all move alike."""
    return torch.full((n,), angle), torch.tensor([[right, down]]).repeat(n, 1)


def test_no_angle_and_no_shift_leave_the_images(images: Tensor) -> None:
    torch.testing.assert_close(affine(images, *same(5)), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(random_affine(images, degrees=0, shift=0), images, rtol=0, atol=1e-5)


def test_a_shift_of_whole_pixels_moves_them_and_repeats_the_border(images: Tensor) -> None:
    moved = affine(images, *same(5, right=3 / 12, down=-2 / 8))
    torch.testing.assert_close(moved[:, :, :6, 3:], images[:, :, 2:, :9], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, :, :6, :3], images[:, :, 2:, :1].expand(-1, -1, -1, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, :, 6:, 3:], images[:, :, 7:, :9].expand(-1, -1, 2, -1), rtol=0, atol=1e-5)


def test_a_quarter_turn_is_clockwise() -> None:
    square = torch.rand(3, 1, 7, 7)
    turned = affine(square, *same(3, angle=math.pi / 2))
    torch.testing.assert_close(turned, square.rot90(-1, dims=(2, 3)), rtol=0, atol=1e-5)


def test_a_turn_and_a_shift_of_an_oblong_image_are_scipys(images: Tensor) -> None:
    angle, right, down = 0.4, 0.13, -0.07
    found = affine(images, *same(5, angle, right, down))
    rows, columns = np.meshgrid(np.arange(8.0), np.arange(12.0), indexing="ij")
    x, y = columns - 5.5 - 12 * right, rows - 3.5 - 8 * down  # from the center, the shift undone
    source = np.stack(
        [-math.sin(angle) * x + math.cos(angle) * y + 3.5, math.cos(angle) * x + math.sin(angle) * y + 5.5]
    )
    for image, moved in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        wanted = map_coordinates(image.numpy(), source, order=1, mode="nearest")
        np.testing.assert_allclose(moved.numpy(), wanted, atol=1e-5)


def test_values_stay_between_those_of_the_image(images: Tensor) -> None:
    for _ in range(20):
        moved = random_affine(images, degrees=45, shift=0.5)
        assert moved.shape == images.shape
        assert bool((moved.amin(dim=(1, 2, 3)) >= images.amin(dim=(1, 2, 3)) - 1e-6).all())
        assert bool((moved.amax(dim=(1, 2, 3)) <= images.amax(dim=(1, 2, 3)) + 1e-6).all())


def test_every_image_moves_by_itself_within_ten_degrees_and_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    monkeypatch.setattr("robust_cluster.nn.augment.affine", lambda images, *moves: drawn.extend(moves))
    random_affine(torch.zeros(5000, 1, 2, 2))
    angles, shifts = torch.rad2deg(drawn[0]), drawn[1]
    assert (angles.shape, shifts.shape) == ((5000,), (5000, 2))
    for values, largest in ((angles, 10.0), (shifts, 0.1)):
        assert values.abs().max() <= largest
        assert values.max() > 0.98 * largest
        assert values.min() < -0.98 * largest
        assert abs(float(values.mean())) < 0.03 * largest


def test_one_seed_gives_one_draw(images: Tensor) -> None:
    torch.manual_seed(3)
    first = random_affine(images)
    torch.manual_seed(3)
    assert random_affine(images).equal(first)
    assert not random_affine(images).equal(first)
