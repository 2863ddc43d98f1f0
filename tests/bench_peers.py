"""Ours beside what others maintain, on the same data, networks and seeds: `make bench-peers`. Nothing here is a test.

"clustering": DEC, IDEC, DCN and VaDE beside ClustPy's, from the same pretrained weights, with the same optimizer,
schedule and losses: its mean squared error and binary cross-entropy are replaced by ours, which divide by the entries
(for DCN by the samples) and by the samples. What stays different is ClustPy's own: a target of each batch in place of
the whole data set, a last incomplete batch, VaDE's weights that start at softmax(pi) and its labels, which are of a
draw of z. Labels are those of the method, not of ClustPy's second k-means.
"attacks": flips by APGD and the ensemble beside torchattacks' APGD and AutoAttack and foolbox's PGD, which get the
logits log q; AutoAttack as torchattacks has it, of 10 gradient steps. All points are clipped to one ball and judged by
the victim's labels. Processor time of one thread in float32, ours with `--precision bf16` in bfloat16 products; of a
clustering without what comes before and after it.
`python -m tests.bench_peers --help` names the options.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.attacks import apgd, ensemble
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import BoundedAttack
from robust_cluster.attacks.budget import Budget, Norm
from robust_cluster.data.base import Batch, DataInfo, Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.measure.scores import SCORES, embed
from robust_cluster.models.autoencoder.dec import DEC
from robust_cluster.models.base import ClusterModel, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.dec import student_t
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.precision import precision, training
from robust_cluster.nn.variational import VariationalAutoencoder
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.seeds import generator
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods
from robust_cluster.stages.loop import Batches, Task, fit, trained_parts

LATENT, BATCH = 10, 128
EPS = {"linf": 0.1, "l2": 0.8}  # of the digits' range of values: about half of DEC's samples flip
Attack = Callable[[Surface, Tensor], Tensor]  # moved images of clean ones


@dataclass(frozen=True)
class Peer:
    """A clustering of ClustPy, and what makes ours and it the same."""

    kind: Any  # ClustPy's class
    module: Any  # whose `fit` holds the steps
    labels: str  # its attribute with the labels of the method itself
    loss: Callable[[Tensor, Tensor], Tensor]  # of the reconstruction
    start: dict[str, Any]  # settings of the first clustering of codes
    ours: dict[str, Any] = field(default_factory=dict)  # settings of our method
    more: dict[str, Any] = field(default_factory=dict)  # settings of ClustPy's


def images(dataset: Dataset) -> tuple[Tensor, DataInfo]:
    """Values (n, 1, side, side) in [0, 1] of square images, or of vectors that are such."""
    (view,), info = dataset.views, dataset.info
    assert isinstance(view, Tensor)
    low, high = info.box or (float(view.min()), float(view.max()))
    side = round(view[0].numel() ** 0.5)
    x = ((view - low) / (high - low)).reshape(-1, 1, side, side)
    return x, DataInfo(info.name, (tuple(x.shape[1:]),), len(x), info.n_clusters, (0.0, 1.0), 1.0, "")


def new(name: str, info: DataInfo, seed: int, **settings: Any) -> ClusterModel:
    """A method of ours in its small profile, with other settings."""
    torch.manual_seed(seed)
    return methods.new_model(name, methods.plain(methods.resolve("models", name, "smoke", settings)), info, LATENT)


def train(model: ClusterModel, x: Tensor, phase: Phase, seed: int = 0, *, level: str = "highest") -> float:
    """Train one phase in the project's own loop, at a level of precision; returns the seconds that the steps took."""
    rows: Callable[[], Any] = lambda: embed(model.eval(), (x,))  # noqa: E731
    model.start(phase, rows, seed)
    optimizers = model.optimizers(phase)

    def after_epoch(epoch: int, batches: Batches) -> None:
        model.after_epoch(phase, epoch, rows, seed)
        model.train()

    step = training(level)(lambda batch: model.train().step(batch, phase, optimizers))
    task = Task("bench", step, trained_parts(model, optimizers))
    task.after_epoch = after_epoch
    spec = RunSpec("pretrain", DataRef("bench"), "0" * 64, "ae_kmeans", LATENT, 0)
    with tempfile.TemporaryDirectory() as folder, RunStore(Path(folder)).own(spec) as run:
        began = time.process_time()
        fit(task, Batches((x,), model.schedule(phase), generator(seed)), run, Silent())
    model.eval()
    return time.process_time() - began


def copied(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the weights of the same layers in `source`: ClustPy's have other names and another order."""
    names = {"encoder": "encoder", "decoder": "decoder"}
    if isinstance(source, VariationalAutoencoder):
        names = {"encoder": "body", "decoder": "decoder", "mean": "mean", "log_variance": "log_var"}
    with torch.no_grad():
        for theirs, ours in names.items():
            pairs = zip(getattr(target, theirs).parameters(), getattr(source, ours).parameters(), strict=True)
            for old, value in pairs:
                old.copy_(value)


def clustering(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Rows of the table: ours and ClustPy's, means over the seeds."""
    from clustpy import deep
    from clustpy.deep.dcn import _DCN_Module
    from clustpy.deep.dec import _DEC_Module
    from clustpy.deep.neural_networks import FeedforwardAutoencoder
    from clustpy.deep.vade import _VaDE_Module, _VaDE_VAE

    dataset = load(DataRef(args.data, flatten=args.data != "digits"), Folders(data_dir=args.data_dir))
    x, info = images(dataset)
    x, labels = x[: len(x) // BATCH * BATCH].flatten(1), dataset.labels
    assert labels is not None
    info = replace(info, shapes=(tuple(x.shape[1:]),), n_samples=len(x))
    widths, data = [x.shape[1], *args.hidden, LATENT], x.numpy()
    schedules = {
        "pretrain": Schedule(epochs=args.pretrain, batch_size=BATCH, lr=1e-3),
        "cluster": Schedule(epochs=args.epochs, batch_size=BATCH, lr=1e-3),
    }
    bce = lambda x_hat, x: F.binary_cross_entropy(x_hat, x, reduction="sum") / len(x)  # noqa: E731
    adam = {"norm": "none", "optimizer": "adam"}
    half = {"clustering_loss_weight": 2.0}  # ClustPy halves it
    peers = {
        "dec": Peer(deep.DEC, _DEC_Module, "dec_labels_", nn.MSELoss(), {"n_init": 20}, {**adam, "tol": 0.0}),
        "idec": Peer(deep.IDEC, _DEC_Module, "dec_labels_", nn.MSELoss(), {"n_init": 20}, {"norm": "none", "tol": 0.0}),
        "dcn": Peer(deep.DCN, _DCN_Module, "dcn_labels_", squared_error, {"n_init": 20}, adam, half),
        "vade": Peer(deep.VaDE, _VaDE_Module, "vade_labels_", bce, {"n_init": 1, "covariance_type": "diag"}),
    }
    for name, peer in peers.items():
        own = "robust_cluster" if args.precision == "highest" else f"robust_cluster, {args.precision}"
        found: dict[str, list[tuple[float, ...]]] = {own: [], "ClustPy": []}
        for seed in args.seeds:
            ours = new(name, info, seed, hidden=tuple(args.hidden), **peer.ours)
            ours.config = replace(ours.config, **schedules)
            variational = {"decoder_output_fn": nn.Sigmoid} if name == "vade" else {}
            net = (_VaDE_VAE if name == "vade" else FeedforwardAutoencoder)(
                widths, activation_fn=nn.ReLU, **variational
            )
            copied(ours.pretrained(), net)
            spent = train(ours, x, "pretrain", seed, level=args.precision) / args.pretrain
            began = time.process_time()
            net.fit(args.pretrain, {"lr": 1e-3}, BATCH, data=data, ssl_loss_fn=nn.MSELoss())
            theirs_spent = (time.process_time() - began) / args.pretrain
            copied(ours.pretrained(), net)
            step = train(ours, x, "cluster", seed, level=args.precision) / args.epochs
            predicted = ours.labels(embed(ours, (x,)).z).numpy()
            found[own].append((*scored(labels, predicted), spent, step))
            theirs = peer.kind(
                info.n_clusters,
                batch_size=BATCH,
                clustering_optimizer_params={"lr": 1e-3},
                clustering_epochs=args.epochs,
                ssl_loss_fn=peer.loss,
                neural_network=net,
                embedding_size=LATENT,
                initial_clustering_params=peer.start,
                random_state=seed,
                **peer.more,
            )
            with timed(peer.module) as times:
                theirs.fit(data)
            predicted = getattr(theirs, peer.labels)
            step = sum(times) / args.epochs
            found["ClustPy"].append((*scored(labels, predicted), theirs_spent, step))
        for library, values in found.items():
            acc, nmi, ari, spent, step = (statistics.mean(column) for column in zip(*values, strict=True))
            result = f"ACC {100 * acc:5.1f}  NMI {100 * nmi:5.1f}  ARI {100 * ari:5.1f}"
            yield name, library, result, f"{spent:.3f} s, {step:.3f} s"


@contextmanager
def timed(kind: Any) -> Iterator[list[float]]:
    """The seconds of every `fit` of ClustPy's module in a block: the steps, without k-means before and after them."""
    spent: list[float] = []
    fit = kind.fit

    def measured(*args: Any, **settings: Any) -> Any:
        began = time.process_time()
        result = fit(*args, **settings)
        spent.append(time.process_time() - began)
        return result

    with mock.patch.object(kind, "fit", measured):
        yield spent


def scored(labels: Any, predicted: Any) -> tuple[float, ...]:
    """ACC, NMI and ARI of the first samples."""
    return tuple(SCORES[name](labels[: len(predicted)], predicted.astype("int64")) for name in ("ACC", "NMI", "ARI"))


class NoGradient(DEC):
    """Its log q has the right values and no slope."""

    def log_assign(self, z: Tensor) -> Tensor:
        return super().log_assign(z).detach() + 0 * z.sum()


class LabelAlone(DEC):
    """Its log q tells the nearest center and nothing else."""

    def log_assign(self, z: Tensor) -> Tensor:
        return F.one_hot(super().log_assign(z).argmax(dim=1), self.info.n_clusters) + 0 * z.sum()


class OthersGradient(DEC):
    """Its log q has the right values and the slope to other centers."""

    def log_assign(self, z: Tensor) -> Tensor:
        other = student_t(z, self.centers.roll(1, dims=0)).log()
        return super().log_assign(z).detach() + other - other.detach()


def victims() -> dict[str, tuple[Surface, Tensor]]:
    """DEC and ConvAE of the digits as 8 x 8 pixels, and DEC behind three masks; each with the images."""
    x, info = images(load(DataRef("digits"), Folders()))
    plain = {}
    for name in ("dec", "convae"):
        model = new(name, info, 0)
        pretrain = Schedule(epochs=10, batch_size=128, steps_per_epoch=30)
        model.config = replace(model.config, pretrain=pretrain, cluster=replace(pretrain, epochs=3))
        train(model, x, "pretrain")
        train(model, x, "cluster")
        plain[name] = model
    found = dict(plain)
    for kind in (NoGradient, LabelAlone, OthersGradient):
        masked = kind(plain["dec"].config, info, LATENT)
        masked.load_state_dict(plain["dec"].state_dict())
        found[kind.__name__] = masked.eval()
    return {name: (Surface(model.eval().requires_grad_(False), "input"), x) for name, model in found.items()}


class Logits(nn.Module):
    """What other libraries attack: log q of images."""

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self.model = surface.model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.log_assign(self.model.encode((x,)).z)


def attacks(norm: Norm, *, queries: int = 5000) -> dict[str, Attack]:
    """Ours and theirs by name, each with the steps of the paper or, of AutoAttack, those that torchattacks gives it."""
    import foolbox
    import torchattacks

    eps = EPS[norm]

    def ours(kind: type[BoundedAttack], config: Any) -> Attack:
        def attack(surface: Surface, x: Tensor) -> Tensor:
            torch.manual_seed(0)
            return kind(config, surface).perturb(surface, Batch((x,), torch.arange(len(x))))[0]

        return attack

    def theirs(kind: Any, **settings: Any) -> Attack:
        word = {"linf": "Linf", "l2": "L2"}[norm]
        return lambda surface, x: kind(Logits(surface).eval(), norm=word, eps=eps, seed=0, **settings)(
            x, surface.labels((x,))
        )

    def pgd(surface: Surface, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        wrapped = foolbox.PyTorchModel(Logits(surface).eval(), bounds=(0, 1))
        kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
        return kind()(wrapped, x, surface.labels((x,)), epsilons=eps)[1]

    return {
        "apgd": ours(apgd.Apgd, apgd.Config(norm=norm, eps=eps)),
        "torchattacks APGD": theirs(torchattacks.APGD, steps=100, loss="ce"),
        "foolbox PGD": pgd,
        "ensemble": ours(ensemble.Ensemble, ensemble.Config(norm=norm, eps=eps, queries=queries)),
        "torchattacks AutoAttack": theirs(torchattacks.AutoAttack),
        "the same, rand": theirs(torchattacks.AutoAttack, version="rand"),
    }


def flips(surface: Surface, clean: Tensor, moved: Tensor, norm: Norm) -> int:
    """How many samples are in another cluster at the points that the ball leaves of the moved ones."""
    inside = Budget(norm, EPS[norm], (0.0, 1.0)).clip((clean,), (moved.detach(),))
    return int((surface.labels(inside) != surface.labels((clean,))).sum())


def attacked(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Rows of the table: the flips of each victim by each attack."""
    for victim, (surface, x) in victims().items():
        for name, attack in attacks(args.norm, queries=args.queries).items():
            clean = x[: args.samples]
            began = time.process_time()
            moved = attack(surface, clean)
            spent = time.process_time() - began
            share = flips(surface, clean, moved, args.norm) / len(clean)
            yield victim, name, f"flips {100 * share:5.1f} %", f"{spent:.2f} s"


PARTS = {"clustering": clustering, "attacks": attacked}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--data", default="digits", help="what is clustered, square images")
    parser.add_argument("--data-dir", type=Path, help="where its files are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the clusterings")
    parser.add_argument("--pretrain", type=int, default=60, help="epochs of the autoencoder")
    parser.add_argument("--epochs", type=int, default=30, help="of the clustering")
    parser.add_argument("--hidden", type=int, nargs="+", default=[250, 250, 1000], help="the encoder's widths")
    parser.add_argument("--precision", choices=("highest", "bf16"), default="highest", help="of our trainings")
    parser.add_argument("--norm", choices=("linf", "l2"), default="linf", help="of the ball")
    parser.add_argument("--samples", type=int, default=200, help="that are attacked")
    parser.add_argument("--queries", type=int, default=5000, help="of our Square; torchattacks asks 5000")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}, only {', '.join(PARTS)}")
    torch.set_num_threads(1)
    print(f"{'case':22}{'by':26}{'result':34}processor time (of a clustering: autoencoder, clustering epoch)")
    with precision("highest"):
        for part in args.parts:
            for case, by, result, spent in PARTS[part](args):
                print(f"{case:22}{by:26}{result:34}{spent}", flush=True)


if __name__ == "__main__":
    main()
