"""MIE pairs x with z in mode clean and mu with mu in mode paper."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.models.autoencoder.mie import MIE, Config
from tests.models.conftest import Build


def pairs_seen(model: MIE, batch: Batch) -> Tensor:
    """The joint and the shuffled pairs, (2n, a + b), that the discriminator was given."""
    seen: list[Tensor] = []
    model.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    model.losses(batch, "cluster")
    return seen[0]


def test_mode_clean_pairs_the_data_with_the_drawn_embedding(build: Build, batch: Batch) -> None:
    model = cast(MIE, build("mie"))
    torch.manual_seed(1)
    joint, independent = pairs_seen(model, batch).chunk(2)
    torch.manual_seed(1)
    z = model(batch.views).z_drawn
    assert joint.equal(torch.cat([batch.views[0], z], dim=1))
    assert independent[:, :64].equal(batch.views[0])
    assert not independent[:, 64:].equal(z)


def test_mode_paper_pairs_the_mean_with_itself_and_never_sees_the_data(build: Build, batch: Batch) -> None:
    model = cast(MIE, build("mie", mode="paper"))
    mean = model.encode(batch.views).z
    joint, independent = pairs_seen(model, batch).chunk(2)
    assert joint.equal(torch.cat([mean, mean], dim=1))
    assert independent[:, :8].equal(mean)
    assert independent[:, 8:].sort(dim=0).values.equal(mean.sort(dim=0).values)


def test_the_untrained_information_term_is_at_chance_and_carries_its_weight(build: Build, batch: Batch) -> None:
    """2 log 2 within 0.2 on small-scale inputs."""
    small = Batch((0.1 * batch.views[0],), batch.index)
    values = []
    for weight in (1.0, 0.5):
        model = build("mie", information_weight=weight)
        torch.manual_seed(1)
        values.append(model.losses(small, "cluster")["information"].item())
    assert values[0] == pytest.approx(1.386, abs=0.2)
    assert values[1] == pytest.approx(0.5 * values[0])


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,)], ids=["image", "vector"])
@pytest.mark.parametrize(("mode", "left"), [("clean", 784), ("paper", 64)])
def test_the_discriminator_is_as_wide_as_its_pair(shape: tuple[int, ...], mode: str, left: int) -> None:
    config = Config(mode=mode, head=(8,), hidden=(8,))  # type: ignore[arg-type]
    model = MIE(config, DataInfo("toy", (shape,), 100, 10, None, 1.0, ""), 64)
    layers = [m for m in model.discriminator.modules() if isinstance(m, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (left + 64, 64),
        (64, 64),
        (64, 64),
        (64, 1),
    ]
    batch = Batch((torch.rand(4, *shape),), torch.arange(4))
    assert model.losses(batch, "cluster")["information"].isfinite()


def test_encoder_and_discriminator_learn_from_the_information_term(build: Build, batch: Batch) -> None:
    model = cast(MIE, build("mie"))
    model.losses(batch, "cluster")["information"].backward()
    for part in (model.autoencoder.body, model.discriminator):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters() if p.ndim == 2)
