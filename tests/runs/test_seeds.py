"""Seeds are equal everywhere, differ with every axis, and leave torch's global generator alone."""

import hashlib

import torch

from robust_cluster.runs.seeds import generator, seed_for


def test_the_seed_is_the_sha256_of_the_written_axes() -> None:
    digest = hashlib.sha256(b'[0, "split", "digits", 64]').digest()
    assert seed_for(0, "split", "digits", 64) == int.from_bytes(digest[:8], "big") % 2**31


def test_each_axis_their_order_and_the_base_change_the_seed() -> None:
    choices = [(0, "a", "b"), (1, "a", "b"), (0, "b", "a"), (0, "a"), (0,), (0, "a", "b", 0), (0, "a", "c")]
    assert len({seed_for(*choice) for choice in choices}) == len(choices)


def test_axes_that_read_alike_when_joined_are_kept_apart() -> None:
    choices = [(0, "a", "bc"), (0, "ab", "c"), (0, "abc"), (0, 'a", "bc'), (0, "a, bc")]
    assert len({seed_for(*choice) for choice in choices}) == len(choices)
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
