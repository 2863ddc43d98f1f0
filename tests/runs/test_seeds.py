"""Seeds are equal everywhere, differ with every axis, and leave torch's global generator alone."""

import hashlib

import torch

from robust_cluster.runs.seeds import generator, seed_for


def test_the_seed_is_the_sha256_of_the_written_axes() -> None:
    digest = hashlib.sha256(b'[0, "split", "digits", 64]').digest()
    assert seed_for(0, "split", "digits", 64) == int.from_bytes(digest[:8], "big") % 2**31


def test_each_axis_their_order_and_the_base_change_the_seed() -> None:
    axes: list[list[str | int]] = [["a", "b"], ["b", "a"], ["a"], [], ["a", "b", 0], ["a", "c"]]
    assert len({seed_for(base, *choice) for base in (0, 1) for choice in axes}) == 2 * len(axes)


def test_axes_that_read_alike_when_joined_are_kept_apart() -> None:
    axes = [["a", "bc"], ["ab", "c"], ["abc"], ['a", "bc'], ["a, bc"]]
    assert len({seed_for(0, *choice) for choice in axes}) == len(axes)
    assert seed_for(0, 1) != seed_for(0, "1")


def test_seeds_fill_the_range_below_two_to_the_31() -> None:
    seeds = [seed_for(base, "init") for base in range(1000)]
    assert min(seeds) >= 0
    assert max(seeds) < 2**31
    assert max(seeds) > 2**31 * 0.98  # all 31 bits are used
    assert len(set(seeds)) == 1000


def test_a_generator_repeats_its_numbers_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(5, generator=generator(7))
    assert torch.equal(first, torch.rand(5, generator=generator(7)))
    assert not torch.equal(first, torch.rand(5, generator=generator(8)))
    assert torch.equal(before, torch.get_rng_state())
