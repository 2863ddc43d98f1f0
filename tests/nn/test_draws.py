"""Draws are functions of seed, row, place and stream alone, and behave as independent uniform or normal numbers."""

import math

import pytest
import torch
from scipy import stats

from robust_cluster.nn.draws import AHEAD, Ahead, normal, signs, uniform

ROWS = torch.arange(400)


def splitmix(state: int) -> int:
    """The output function of SplitMix64 in Python's whole numbers."""
    mask = 2**64 - 1
    x = state & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


@pytest.mark.parametrize("seed", [0, 7, 2**62 - 1, -3])
def test_the_integer_operations_are_those_of_splitmix64_in_whole_numbers(seed: int) -> None:
    golden = 0x9E3779B97F4A7C15
    key = splitmix(splitmix((seed % 2**64) ^ golden) + 6 * golden)
    drawn = uniform(seed, torch.tensor([3, 0, 10**12]), (2, 2), 5)
    for row, values in zip((3, 0, 10**12), drawn, strict=True):
        own = splitmix(key ^ splitmix(row + 1))
        expected = [(splitmix(own + i * golden) >> 40) / 2**24 for i in range(1, 5)]
        assert values.flatten().tolist() == expected


def test_the_finalizer_gives_the_published_first_numbers_of_seed_0() -> None:
    golden = 0x9E3779B97F4A7C15
    assert [splitmix(i * golden) for i in (1, 2, 3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("draw", [uniform, normal, signs])
def test_a_row_has_its_draws_in_any_batch_and_order(draw: type) -> None:
    whole = draw(1, ROWS, (3, 5), 2)
    some = torch.tensor([17, 3, 399])
    assert draw(1, some, (3, 5), 2).equal(whole[some])
    assert draw(1, ROWS, (3, 5), 2).equal(whole)
    assert whole.shape == (400, 3, 5)
    assert whole.dtype == torch.float32


@pytest.mark.parametrize("draw", [uniform, normal, signs])
def test_draws_do_not_touch_the_global_generator(draw: type) -> None:
    before = torch.get_rng_state()
    draw(1, ROWS, (2,), 0)
    assert torch.get_rng_state().equal(before)


def test_seeds_rows_places_and_streams_are_uncorrelated() -> None:
    first = uniform(1, ROWS, (100,), 0)
    others = [uniform(2, ROWS, (100,), 0), uniform(1, ROWS + 1, (100,), 0), uniform(1, ROWS, (100,), 1)]
    others += [first.roll(1, dims=1), uniform(1, ROWS, (100,), (0, 1)), uniform(1, ROWS, (100,), (1, 0))]
    for other in others:
        pair = torch.stack([first.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / math.sqrt(first.numel())


def test_uniform_draws_are_uniform_and_normal_ones_normal() -> None:
    assert stats.kstest(uniform(5, ROWS, (200,), 0).flatten().numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(normal(5, ROWS, (200,), 0).flatten().numpy(), "norm").pvalue > 0.01
    flat = uniform(5, ROWS, (200,), 0)
    assert 0 <= float(flat.min()) < 1e-4
    assert 1 - 1e-4 < float(flat.max()) < 1


def test_signs_are_plus_and_minus_one_in_equal_parts() -> None:
    drawn = signs(5, ROWS, (200,))
    assert set(drawn.flatten().tolist()) == {-1.0, 1.0}
    assert abs(float(drawn.mean())) < 4 / math.sqrt(drawn.numel())


def test_draws_made_ahead_are_those_of_each_step_also_of_the_rows_that_are_left() -> None:
    ahead = Ahead(3, ROWS, (2, 3), lambda step: (7, step))
    for step in (0, 1, AHEAD - 1, AHEAD, 3 * AHEAD + 5, 2):
        assert ahead.at(step).equal(uniform(3, ROWS, (2, 3), (7, step)))
    some = torch.tensor([5, 390])
    ahead.cut(some)
    for step in (3, AHEAD + 2, 5 * AHEAD):
        assert ahead.at(step).equal(uniform(3, some, (2, 3), (7, step)))
