"""The losses of adversarially constrained interpolation, worked by hand, and the shares that are mixed."""

import torch

from robust_cluster.nn.interpolation import critic_loss, draw_alpha, interpolate, interpolation_penalty, scores

CPU = torch.device("cpu")


def test_shares_are_uniform_and_folded_ones_at_most_a_half() -> None:
    torch.manual_seed(0)
    for is_folded, largest in ((True, 0.5), (False, 1.0)):
        alpha = draw_alpha(20_000, is_folded=is_folded, device=CPU)
        assert alpha.shape == (20_000, 1)
        counts = torch.histc(alpha, bins=4, min=0, max=largest)
        assert bool((counts - 5000).abs().max() < 300), f"{largest}: {counts}"
        assert counts.sum() == 20_000


def test_codes_are_mixed_with_those_of_the_reversed_batch() -> None:
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
    alpha = torch.tensor([[0.25], [0.5], [0.0]])
    torch.testing.assert_close(interpolate(z, alpha), torch.tensor([[3.25, 3.0], [0.0, 2.0], [1.0, 0.0]]))


def test_a_mix_is_the_same_image_for_the_other_order_and_the_rest_of_the_share() -> None:
    """Why shares in [0, 1] teach a critic nothing but their mean."""
    z, alpha = torch.randn(6, 3), torch.rand(6, 1)
    torch.testing.assert_close(interpolate(z, alpha), interpolate(z.flip(0), 1 - alpha))


def test_both_losses_worked_by_hand() -> None:
    mixed, blended = scores(torch.tensor([[0.0, 1.0], [1.0, 3.0]])), scores(torch.tensor([[2.0], [1.0]]))
    torch.testing.assert_close(mixed, torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(interpolation_penalty(mixed), torch.tensor(4.25 / 2))
    alpha = torch.tensor([[0.25], [0.5]])
    torch.testing.assert_close(critic_loss(mixed, alpha, blended), torch.tensor((0.0625 + 2.25) / 2 + 5 / 2))
