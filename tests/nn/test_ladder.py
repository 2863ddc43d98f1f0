"""The ladder's passes, its decoder and its costs, against the equations written out."""

import torch
from torch import Tensor

from robust_cluster.nn.ladder import Ladder


def ladder(noise: float = 0.3) -> Ladder:
    torch.manual_seed(0)
    net = Ladder([5, 4, 3], noise)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    return net


def normalized(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-5).sqrt()


def test_a_clean_pass_is_a_network_with_batch_norm() -> None:
    net, x = ladder(), torch.randn(20, 5)
    found = net.climb(x)
    z1 = normalized(x @ net.up[0].weight.T)  # type: ignore[operator]
    z2 = normalized((z1 + net.shifts[0]).clamp_min(0) @ net.up[1].weight.T)  # type: ignore[operator]
    for level, expected in enumerate((x, z1, z2)):
        torch.testing.assert_close(found.z[level], expected)
    torch.testing.assert_close(found.logits, net.top_scale * (z2 + net.shifts[1]))


def test_noise_reaches_every_layer_and_no_statistic_of_the_batch_norms() -> None:
    net, x = ladder(), torch.randn(20, 5)
    before = {name: value.clone() for name, value in net.named_buffers()}
    torch.manual_seed(3)
    noisy = net.climb(x, noisy=True)
    assert all(value.equal(before[name]) for name, value in net.named_buffers())
    torch.manual_seed(3)
    shaken = x + 0.3 * torch.randn(20, 5)
    z1 = normalized(shaken @ net.up[0].weight.T) + 0.3 * torch.randn(20, 4)  # type: ignore[operator]
    torch.testing.assert_close(noisy.z[1], z1)
    net.climb(x)
    assert not all(value.equal(before[name]) for name, value in net.named_buffers())


def test_the_decoder_and_the_costs_are_those_of_the_equations() -> None:
    net, x = ladder(), torch.randn(20, 5)
    clean, noisy = net.climb(x), net.climb(x, noisy=True)
    u, costs = normalized(noisy.logits.softmax(dim=1)), []
    for level, weight in ((2, 0.5), (1, 10.0), (0, 1000.0)):
        a = list(net.combine[level])
        mean = a[0] * torch.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
        share = a[5] * torch.sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
        found = (noisy.z[level] - mean) * share + mean
        torch.testing.assert_close(net.descend(noisy)[level], found)
        if level:
            h = clean.z[0] if level == 1 else (clean.z[1] + net.shifts[0]).clamp_min(0)
            raw = h @ net.up[level - 1].weight.T  # type: ignore[operator]
            u = normalized(found @ net.down[level - 1].weight.T)  # type: ignore[operator]
            found = (found - raw.mean(dim=0)) / (raw.var(dim=0, correction=0) + 1e-5).sqrt()
        costs.append(weight * (found - clean.z[level]).square().sum() / found.numel())
    torch.testing.assert_close(net.denoising(clean, noisy, (1000.0, 10.0, 0.5)), sum(costs), rtol=1e-4, atol=1e-4)


def test_it_learns_to_denoise() -> None:
    torch.manual_seed(0)
    net, x = Ladder([5, 8, 3], 0.3), torch.randn(200, 2) @ torch.randn(2, 5)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    costs = []
    for _ in range(100):
        cost = net.denoising(net.climb(x), net.climb(x, noisy=True), (1.0, 0.1, 0.1))
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert costs[-1] < 0.5 * costs[0]
