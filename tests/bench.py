"""Speeds of the training loop as ratios measured in one process: `make bench`. Nothing here is a test.

Prints samples/s of our loop on the 784-500-500-2000-10 autoencoder at batch 256, its ratio to a plain PyTorch loop
(DataLoader, default Adam, default precision) of the same network, and the share of this machine's oneDNN float32 peak;
and the ratios of an epoch at precision "medium" and "bf16" to one at "highest".
Then, per sample of CoMVC on two views of 28 x 28 pixels, a training step and a step of PGD in ratio to a forward pass;
and LPVDN's pairwise distribution of 800 embeddings in 10 clusters in ratio to scikit-learn's exact helper, which is
given the distances, and as a share of a training step on 784 pixels. APGD-100 on a fully connected victim in ratio to
100 forward and backward passes.
The loop on a sparse matrix of REUTERS' width and density in ratio to the same matrix dense. The peak memory of an
attack of view_gan on 35,000 samples. At last the seconds from `rc cluster` to its first step on prepared data.
Medians of ROUNDS rounds, what is compared interleaved, on one thread.
"""

import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from sklearn.manifold import _t_sne
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from robust_cluster.attacks import apgd, pgd
from robust_cluster.attacks.apgd import Apgd
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.pgd import PGD
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.data.sparse import SparseView, canonical, view_of
from robust_cluster.models.autoencoder import convae
from robust_cluster.models.autoencoder.convae import ConvAE
from robust_cluster.models.multiview import comvc
from robust_cluster.models.multiview.comvc import CoMVC
from robust_cluster.models.schedule import Schedule
from robust_cluster.models.variational import lpvdn
from robust_cluster.models.variational.lpvdn import LPVDN
from robust_cluster.nn.layers import GaussianAutoencoder
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.objectives import margin
from robust_cluster.nn.optim import adam, descend
from robust_cluster.nn.precision import precision, training
from robust_cluster.nn.tsne import joint_probabilities, pairwise_squares
from robust_cluster.runs.environment import matmul_error
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.seeds import generator
from robust_cluster.runs.spec import PRECISIONS, DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.loop import Batches, Task, fit

ROUNDS = 5
PGD_STEPS = 4  # by which two runs differ: what is once in each, as the look at the last point, is no part of a step
SAMPLES, INPUTS, LATENT, BATCH = 6400, 784, 10, 256
HIDDEN = (500, 500, 2000)
FLOP_PER_SAMPLE = 6 * 2 * sum(a * b for a, b in [(784, 500), (500, 500), (500, 2000), (2000, 10)]) - 2 * 784 * 500


def new_network(inputs: int = INPUTS) -> GaussianAutoencoder:
    """The autoencoder of DEC, VaDE and LPVDN."""
    return GaussianAutoencoder((inputs,), LATENT, HIDDEN)


def loss_of(network: GaussianAutoencoder, x: Tensor) -> Tensor:
    """Mean squared error of the reconstruction, summed over the inputs."""
    return squared_error(network.decode(network.encode(x)[0]), x)


def ours(x: Tensor | SparseView, level: str = "medium") -> Callable[[], None]:
    """One epoch of the project's loop at a precision, logging and saving included."""
    network = new_network(x.shape[1])
    optimizer = adam(network.parameters(), 1e-3)
    batches = Batches((x,), Schedule(epochs=1, batch_size=BATCH), generator(0))
    step = training(level)(lambda batch: descend({"loss": loss_of(network, batch.views[0])}, optimizer))
    task = Task("bench", step, {})
    spec = RunSpec("pretrain", DataRef("bench"), "0" * 64, "ae_kmeans", LATENT, 0)

    def epoch() -> None:
        with tempfile.TemporaryDirectory() as folder, precision(level):
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


def sparse_and_dense() -> dict[str, Callable[[], object]]:
    """One epoch of ours on the same matrix, 2,000 columns of which 0.4 % are not 0, sparse and dense."""
    torch.manual_seed(0)
    matrix = scipy.sparse.random(SAMPLES, 2000, density=0.004, dtype=np.float32, random_state=0)
    sparse = view_of(canonical(matrix))
    return {"sparse": ours(sparse), "dense": ours(sparse[:])}


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
    """A forward pass, a training step and PGD of 1 and of 1 + PGD_STEPS steps, of one batch of 100."""
    info = DataInfo("bench", ((1, 28, 28),) * 2, 500, 10, (0.0, 1.0), 1.0, "")
    victim = CoMVC(comvc.Config(), info, 64)
    batch = Batch(tuple(torch.rand(100, 1, 28, 28) for _ in range(2)), torch.arange(100))
    optimizers = victim.optimizers("cluster")
    frozen = Surface(copy.deepcopy(victim).eval().requires_grad_(False), "input")
    short, long = (PGD(pgd.Config(norm="linf", eps=0.3, steps=steps), frozen) for steps in (1, 1 + PGD_STEPS))
    known = replace(frozen, memory=frozen.encode(batch.views))
    return {
        "forward": lambda: frozen.encode(batch.views),
        "training step": lambda: victim.step(batch, "cluster", optimizers),
        "PGD, 1 step": lambda: short.perturb(known, batch),
        "PGD, more steps": lambda: long.perturb(known, batch),
    }


def apgd_passes() -> dict[str, Callable[[], object]]:
    """APGD-100 on 1,000 vectors of 64 values that never flip, and 100 forward and backward passes of the objective."""
    info = DataInfo("bench", ((64,),), 1000, 10, (0.0, 1.0), 1.0, "")
    victim = ConvAE(convae.Config(), info, 64).eval().requires_grad_(False)
    surface = Surface(victim, "input")
    batch = Batch((torch.rand(1000, 64),), torch.arange(1000))
    own = surface.labels(batch.views)
    attack = Apgd(apgd.Config(norm="linf", eps=1e-6, steps=100), surface)  # so small that nobody leaves the batch

    def passes() -> None:
        for _ in range(100):
            leaf = batch.views[0].clone().requires_grad_()
            gain = margin(victim.log_assign(victim.encode((leaf,)).z), own)
            torch.autograd.grad(gain.sum(), leaf)

    return {"APGD-100": lambda: attack.perturb(surface, batch), "passes": passes}


def lpvdn_parts() -> dict[str, Callable[[], object]]:
    """LPVDN's P, the same by scikit-learn's exact helper, and a whole training step, of one batch of 800."""
    info = DataInfo("bench", ((784,),), 70_000, 10, (0.0, 1.0), 1.0, "")
    model = LPVDN(lpvdn.Config(), info, LATENT)
    batch = Batch((torch.rand(800, 784),), torch.arange(800))
    optimizers = model.optimizers("cluster")
    z = (4 * torch.randn(10, LATENT))[torch.randint(10, (800,))] + torch.rand(800, 1) * torch.randn(800, LATENT)
    squares = pairwise_squares(z.double()).clamp_min(0).fill_diagonal_(0).numpy()
    return {
        "P": lambda: joint_probabilities(z, 8.0),
        "scikit-learn": lambda: _t_sne._joint_probabilities(squares, 8.0, 0),
        "training step": lambda: model.step(batch, "cluster", optimizers),
    }


def attack_memory(samples: int = 70_000) -> float:
    """GiB at the peak of clustering one half of made samples, two views of 28 x 28 pixels, and attacking the other.

    By view_gan, of SEM with the 1,024 features a view that the convolutional encoders have, in narrow networks with W
    left at 1: what grows with the samples is that of every victim, passes are cheap.
    """
    cheap = "from robust_cluster.models.multiview.sem import SEM; SEM.weigh = lambda *_: None"
    rc = [sys.executable, "-c", f"{cheap}; from robust_cluster.cli.app import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        images = np.random.default_rng(0).integers(256, size=(2, samples, 28, 28), dtype=np.uint8)
        np.savez(Path(folder) / "made.npz", view_0=images[0], view_1=images[1], y=np.arange(samples) % 10)
        del images
        environment = {**os.environ, "RC_CACHE": str(Path(folder) / "cache")}
        data = ["made", "--data-dir", folder]
        subprocess.run([*rc, "data", "prepare", *data], env=environment, capture_output=True, check=True)
        few = ["hidden=[64]", "features=1024", "projected=16", "n_init=1", "rounds=1"]
        few += [f"{phase}.{field}" for phase in ("pretrain", "cluster") for field in ("epochs=1", "steps_per_epoch=5")]
        settings = [f"model.{one}" for one in few] + ["attack.schedule.epochs=1", "attack.schedule.steps_per_epoch=5"]
        options = [word for one in settings for word in ("--set", one)] + ["--runs-dir", f"{folder}/runs", "--quiet"]
        command = [*rc, "attack", "--model", "sem", "--attack", "view_gan", *options, "--data", *data]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, "the attack failed"
        return usage.ru_maxrss / 2**20


def medians(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each call, the median of ROUNDS interleaved rounds after one that warms up."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            spent[name].append(seconds(call))
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


def startup() -> tuple[float, float]:
    """Seconds to import torch, and from `rc cluster` to its first step on 70,000 prepared vectors of 784 values."""
    rc = [sys.executable, "-u", "-c", "from robust_cluster.cli.app import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        images = np.random.default_rng(0).integers(256, size=(70_000, 28, 28), dtype=np.uint8)
        np.savez(Path(folder) / "made.npz", x=images, y=np.arange(70_000) % 10)
        data = ["--data-dir", folder, "--flatten"]
        environment = {**os.environ, "RC_CACHE": str(Path(folder) / "cache")}
        subprocess.run([*rc, "data", "prepare", "made", *data], env=environment, capture_output=True, check=True)
        options = ["--model", "ae_kmeans", "--data", "made", "--profile", "smoke", "--runs-dir", f"{folder}/runs"]

        def begin() -> None:
            command = [*rc, "cluster", *options, *data]
            with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr is not None
                assert any("epochs" in line for line in process.stderr), "it ended before its first step"
                process.kill()

        load = [sys.executable, "-c", "import torch"]
        loaded = statistics.median(seconds(lambda: subprocess.run(load, check=True)) for _ in range(ROUNDS))
        return loaded, statistics.median(seconds(begin) for _ in range(ROUNDS))


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
    spent = medians({level: ours(x, level) for level in PRECISIONS})
    for level in PRECISIONS[1:]:
        print(f"epoch at {level:11}{spent['highest'] / spent[level]:10.2f}             times as fast as at highest")
    spent = medians(comvc_passes())
    spent["PGD step"] = (spent["PGD, more steps"] - spent["PGD, 1 step"]) / PGD_STEPS
    for name in ("training step", "PGD step"):
        passes = spent[name] / spent["forward"]
        print(f"CoMVC {name:13} {10 * spent[name]:10.2f} ms a sample, {passes:.1f} forward passes")
    spent = medians(apgd_passes())
    ratio = spent["APGD-100"] / spent["passes"]
    print(f"APGD-100            {ratio:10.2f}             times 100 forward and backward passes (goal: at most 1.3)")
    with precision("medium"):
        spent = medians(lpvdn_parts())
    ratio = spent["scikit-learn"] / spent["P"]
    print(f"LPVDN's P           {1e3 * spent['P']:10.1f} ms          (800 rows, perplexity 8)")
    print(f"ratio               {ratio:10.1f}             (scikit-learn's helper; goal: at least 5)")
    print(f"share of a step     {spent['P'] / spent['training step']:10.0%}             (goal: under 20 %)")
    spent = medians(sparse_and_dense())
    ratio = spent["dense"] / spent["sparse"]
    print(f"sparse loop         {ratio:10.2f}             (ratio to the dense one, 2,000 columns)")
    help_page = [sys.executable, "-c", "from robust_cluster.cli.app import main; main()", "--help"]
    answer = statistics.median(seconds(lambda: subprocess.run(help_page, capture_output=True)) for _ in range(ROUNDS))
    print(f"rc --help           {answer:10.2f} s           (goal: under 0.5)")
    print(f"view_gan's memory   {attack_memory():10.2f} GiB         (goal: under 3; 35,000 samples in 2 views)")
    loaded, begun = startup()
    print(f"rc cluster, 1st step{begun:10.2f} s           (goal: under 3; prepared 70,000 x 784, on all cores)")
    print(f"of it importing torch{loaded:9.2f} s")
    kind = "bfloat16: this CPU has AMX" if error > 1e-4 else "float32"
    print(f"products in 'medium' have a relative error of {error:.1e} ({kind})")


if __name__ == "__main__":
    main()
