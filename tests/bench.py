"""Speeds of the training loop as ratios measured in one process: `make bench`. Nothing here is a test.

Prints samples/s of our loop on the 784-500-500-2000-10 autoencoder at batch 256, its ratio to a plain PyTorch loop
(DataLoader, default Adam, default precision) of the same network, and the share of this machine's oneDNN float32 peak.
Then, per sample of CoMVC on two views of 28 x 28 pixels, a training step and a step of PGD in ratio to a forward pass;
and LPVDN's pairwise distribution of 800 embeddings in 10 clusters in ratio to scikit-learn's exact helper, which is
given the distances, and as a share of a training step on 784 pixels.
Medians of ROUNDS rounds, what is compared interleaved, on one thread.
"""

import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from sklearn.manifold import _t_sne
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from robust_cluster.attacks import pgd
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.pgd import PGD
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.models.base import Schedule, adam, descend
from robust_cluster.models.multiview import comvc
from robust_cluster.models.multiview.comvc import CoMVC
from robust_cluster.models.variational import lpvdn
from robust_cluster.models.variational.lpvdn import LPVDN
from robust_cluster.nn.layers import GaussianAutoencoder
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.precision import precision
from robust_cluster.nn.tsne import joint_probabilities, squared_distances
from robust_cluster.runs.environment import matmul_error
from robust_cluster.runs.seeds import generator
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.loop import Batches, Silent, Task, fit

ROUNDS = 5
SAMPLES, INPUTS, LATENT, BATCH = 6400, 784, 10, 256
HIDDEN = (500, 500, 2000)
FLOP_PER_SAMPLE = 6 * 2 * sum(a * b for a, b in [(784, 500), (500, 500), (500, 2000), (2000, 10)]) - 2 * 784 * 500


def new_network() -> GaussianAutoencoder:
    """The autoencoder of DEC, VaDE and LPVDN."""
    return GaussianAutoencoder((INPUTS,), LATENT, HIDDEN)


def loss_of(network: GaussianAutoencoder, x: Tensor) -> Tensor:
    """Mean squared error of the reconstruction, summed over the inputs."""
    return squared_error(network.decode(network.encode(x)[0]), x)


def ours(x: Tensor) -> Callable[[], None]:
    """One epoch of the project's loop, logging and saving included."""
    network = new_network()
    optimizer = adam(network.parameters(), 1e-3)
    batches = Batches((x,), Schedule(epochs=1, batch_size=BATCH), generator(0))
    task = Task("bench", lambda batch: descend({"loss": loss_of(network, batch.views[0])}, optimizer), {})
    spec = RunSpec("pretrain", DataRef("bench"), "0" * 64, "ae_kmeans", LATENT, 0)

    def epoch() -> None:
        with tempfile.TemporaryDirectory() as folder, precision("medium"):
            with RunStore(Path(folder)).own(spec) as run:
                fit(task, batches, run, Silent())

    return epoch


def plain(x: Tensor) -> Callable[[], None]:
    """One epoch of the loop that most releases have: DataLoader over a TensorDataset, Adam as it comes."""
    network: nn.Module = new_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True, drop_last=True)

    def epoch() -> None:
        for (batch,) in loader:
            optimizer.zero_grad()
            loss = loss_of(network, batch)  # type: ignore[arg-type]
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def peak() -> float:
    """FLOP/s of oneDNN's float32 product on this machine, the best of the autoencoder's wide shapes."""
    rates = []
    for n, k, m in [(256, 500, 2000), (1000, 2000, 500), (2048, 2048, 2048)]:
        x, w = torch.rand(n, k), torch.rand(m, k)
        product = lambda x=x, w=w: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")  # noqa: E731
        product()
        rates.append(2 * n * k * m / statistics.median(seconds(product) for _ in range(ROUNDS)))
    return max(rates)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def comvc_passes() -> dict[str, Callable[[], object]]:
    """A forward pass, a training step and a step of PGD of one batch of 100."""
    info = DataInfo("bench", ((1, 28, 28),) * 2, 500, 10, (0.0, 1.0), 1.0, "")
    victim = CoMVC(comvc.Config(), info, 64)
    batch = Batch(tuple(torch.rand(100, 1, 28, 28) for _ in range(2)), torch.arange(100))
    optimizers = victim.optimizers("cluster")
    frozen = Surface(copy.deepcopy(victim).eval().requires_grad_(False), "input")
    attack = PGD(pgd.Config(norm="linf", eps=0.3, steps=1), frozen)
    known = replace(frozen, memory=frozen.encode(batch.views))  # so that only the step itself is timed
    return {
        "forward": lambda: frozen.encode(batch.views),
        "training step": lambda: victim.step(batch, "cluster", optimizers),
        "PGD step": lambda: attack.perturb(known, batch),
    }


def lpvdn_parts() -> dict[str, Callable[[], object]]:
    """LPVDN's P, the same by scikit-learn's exact helper, and a whole training step, of one batch of 800."""
    info = DataInfo("bench", ((784,),), 70_000, 10, (0.0, 1.0), 1.0, "")
    model = LPVDN(lpvdn.Config(), info, LATENT)
    batch = Batch((torch.rand(800, 784),), torch.arange(800))
    optimizers = model.optimizers("cluster")
    z = (4 * torch.randn(10, LATENT))[torch.randint(10, (800,))] + torch.rand(800, 1) * torch.randn(800, LATENT)
    squares = squared_distances(z.double()).clamp_min(0).fill_diagonal_(0).numpy()
    return {
        "P": lambda: joint_probabilities(z, 8.0),
        "scikit-learn": lambda: _t_sne._joint_probabilities(squares, 8.0, 0),
        "training step": lambda: model.step(batch, "cluster", optimizers),
    }


def medians(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each call, the median of ROUNDS interleaved rounds after one that warms up."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            spent[name].append(seconds(call))
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(SAMPLES, INPUTS)
    loops = {"ours": ours(x), "plain": plain(x)}
    for loop in loops.values():
        loop()
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            times[name].append(seconds(loop))
    ratio = statistics.median(p / o for p, o in zip(times["plain"], times["ours"], strict=True))
    used = SAMPLES // BATCH * BATCH
    ours_rate = used / statistics.median(times["ours"])
    with precision("medium"):
        error = matmul_error()
    print(f"training loop       {ours_rate:10.0f} samples/s   (784-500-500-2000-10, batch {BATCH}, one thread)")
    print(f"plain PyTorch loop  {used / statistics.median(times['plain']):10.0f} samples/s")
    print(f"ratio               {ratio:10.2f}             (goal: at least 2.0)")
    top = peak()
    print(f"oneDNN float32 peak {top / 1e9:10.0f} GFLOP/s")
    print(f"share of the peak   {ours_rate * FLOP_PER_SAMPLE / top:10.0%}             (goal: at least 70 %)")
    spent = medians(comvc_passes())
    for name in ("training step", "PGD step"):
        passes = spent[name] / spent["forward"]
        print(f"CoMVC {name:13} {10 * spent[name]:10.2f} ms a sample, {passes:.1f} forward passes")
    with precision("medium"):
        spent = medians(lpvdn_parts())
    ratio = spent["scikit-learn"] / spent["P"]
    print(f"LPVDN's P           {1e3 * spent['P']:10.1f} ms          (800 rows, perplexity 8)")
    print(f"ratio               {ratio:10.1f}             (scikit-learn's helper; goal: at least 5)")
    print(f"share of a step     {spent['P'] / spent['training step']:10.0%}             (goal: under 20 %)")
    help_page = [sys.executable, "-c", "from robust_cluster.cli.app import main; main()", "--help"]
    answer = statistics.median(seconds(lambda: subprocess.run(help_page, capture_output=True)) for _ in range(ROUNDS))
    print(f"rc --help           {answer:10.2f} s           (goal: under 0.5)")
    kind = "bfloat16: this CPU has AMX" if error > 1e-4 else "float32"
    print(f"products in 'medium' have a relative error of {error:.1e} ({kind})")


if __name__ == "__main__":
    main()
