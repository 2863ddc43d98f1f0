"""What methods refuse, and the sentence that the user reads: what a number must be, other settings, and data."""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from robust_cluster import discover
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.schedule import Schedule
from robust_cluster.stages import methods
from tests.contracts.choice import IMAGES, MODELS, TRAINED, info_for

ENTROPY = "objective must be one of margin, kl, displacement, targeted, got 'entropy'"
FLAT = "has no gradient at the clean point, so it needs a random start"
SIMVC = "hidden must be >= 1 and relative_sigma and max_norm > 0"
BROKEN: dict[str, tuple[float, ...]] = {  # rule -> values that break it
    ">= 0": (-1,),
    ">= 1": (0,),
    "> 0": (0.0,),
    "in (0, 1)": (0.0, 1.0),
    "in (0, 1]": (0.0, 1.5, math.nan),
    "in [0, 1)": (1.0,),
}
RULES: list[tuple[Kind, str, str, tuple[str, ...]]] = [
    ("models", "aae", "> 0", ("adversarial_lr",)),
    ("models", "abc", ">= 0", ("cluster_weight",)),
    ("models", "adec", ">= 0", ("adversarial_weight", "discriminator_epochs", "discriminator_gap")),
    ("models", "adec", "> 0", ("discriminator_lr",)),
    ("models", "aecoddc", ">= 0", ("recon_weight",)),
    ("models", "dc_gmm", ">= 0", ("code_weight",)),
    ("models", "dc_gmm", "> 0", ("rho", "ridge")),
    ("models", "clustergan", ">= 0", ("noise_weight", "category_weight")),
    ("models", "clustergan", ">= 1", ("noise_dim", "dense", "hidden", "critic_steps", "n_init")),
    ("models", "dcan", ">= 0", ("em_passes",)),
    ("models", "dcan", ">= 1", ("minibatch", "critic", "pool", "side")),
    ("models", "dcan", "> 0", ("scale",)),
    ("models", "dcan", "in [0, 1)", ("momentum", "min_variance")),
    ("models", "dcn", ">= 0", ("cluster_weight",)),
    ("models", "dcn", ">= 1", ("first_count",)),
    ("models", "dec", ">= 0", ("corruption", "critic_weight", "tol")),
    ("models", "dec", ">= 1", ("n_init",)),
    ("models", "dec", "in [0, 1)", ("corruption", "momentum")),
    ("models", "ae_finch", "> 0", ("memory",)),
    ("models", "agglomerative", ">= 0", ("stored",)),
    ("models", "agglomerative", "> 0", ("memory",)),
    ("models", "deepcluster", ">= 0", ("momentum", "weight_decay")),
    ("models", "deepcluster", ">= 1", ("maps", "features", "components", "clusters_per_cluster", "n_init")),
    ("models", "depict", ">= 0", ("held_share", "tol")),
    ("models", "depict", ">= 1", ("maps", "patience", "n_init")),
    ("models", "sr_kmeans", "> 0", ("temperature",)),
    ("models", "eamc", ">= 0", ("adversarial_weight",)),
    ("models", "ensc", ">= 1", ("gamma", "neighbors", "atoms", "rounds", "kept", "n_init")),
    ("models", "ensc", "in (0, 1]", ("tau",)),
    ("models", "gmm", ">= 0", ("ridge",)),
    ("models", "gmm", ">= 1", ("max_iter",)),
    ("models", "imsat", ">= 0", ("weight", "marginal_weight", "radius_share")),
    ("models", "imsat", ">= 1", ("neighbors", "hidden")),
    ("models", "imsat", "> 0", ("probe",)),
    ("models", "jule", ">= 0", ("momentum", "weight_decay", "lr_rate", "lr_power", "margin")),
    ("models", "jule", ">= 1", ("maps", "kernel", "features", "neighbors", "local", "period", "negatives")),
    ("models", "jule", "> 0", ("positive_weight",)),
    ("models", "jule", "in (0, 1]", ("unrolling",)),
    ("models", "kingdra", ">= 0", ("noise", "information_weight", "low", "denoising_weights")),
    ("models", "kingdra", ">= 1", ("models", "hidden", "round_epochs")),
    ("models", "kingdra", "in (0, 1]", ("confidence",)),
    ("models", "graph", ">= 0", ("ridge",)),
    ("models", "graph", ">= 1", ("neighbors",)),
    ("models", "graph", "> 0", ("bandwidth",)),
    ("models", "idec", ">= 0", ("gamma",)),
    ("models", "lsnmf", ">= 0", ("tol",)),
    ("models", "lsnmf", ">= 1", ("max_iter",)),
    ("models", "rbf_kmeans", ">= 1", ("n_init", "max_iter")),
    ("models", "spectral", ">= 1", ("neighbors", "n_init")),
    ("models", "ssc_omp", ">= 0", ("tolerance",)),
    ("models", "ssc_omp", ">= 1", ("sparsity", "n_init")),
    ("models", "lpvdn", ">= 0", ("alpha0", "alpha1", "mi_scale")),
    ("models", "lpvdn", ">= 1", ("locality_dim", "n_init")),
    ("models", "lpvdn", "in (0, 1)", ("perplexity_share",)),
    ("models", "multivae", ">= 0", ("capacity",)),
    ("models", "multivae", ">= 1", ("capacity_steps",)),
    ("models", "sem", ">= 1", ("projected",)),
    ("models", "vade", ">= 0", ("corruption",)),
    ("models", "vade", ">= 1", ("mixture_starts",)),
    ("models", "vade", "in [0, 1)", ("corruption",)),
    ("models", "vae_kmeans", ">= 1", ("n_init",)),
    ("attacks", "apgd", ">= 0", ("steps",)),
    ("attacks", "apgd", ">= 1", ("restarts", "targets", "eot")),
    ("attacks", "apgd", "> 0", ("relative_step",)),
    ("attacks", "apgd", "in (0, 1]", ("momentum", "rho")),
    ("attacks", "ensemble", ">= 0", ("steps",)),
    ("attacks", "ensemble", ">= 1", ("queries",)),
    ("attacks", "gaussian_pollution", ">= 0", ("sigma",)),
    ("attacks", "latent_net", ">= 0", ("gamma", "size_weight")),
    ("attacks", "latent_pgd", ">= 0", ("eps", "steps")),
    ("attacks", "latent_pgd", "> 0", ("relative_step",)),
    ("attacks", "noise", ">= 1", ("draws",)),
    ("attacks", "square", ">= 1", ("queries",)),
    ("attacks", "square", "in (0, 1]", ("first_area",)),
    ("attacks", "universal", "> 0", ("relative_step",)),
    ("attacks", "view_gan", ">= 0", ("eps", "init_std", "gan_weight", "hinge_radius")),
    ("attacks", "view_gan", "in (0, 1]", ("train_share", "lr_drop")),
    ("defenses", "ar_dmvc", ">= 0", ("eps", "lam")),
    ("defenses", "ar_dmvc", ">= 1", ("steps",)),
    ("defenses", "ar_dmvc", "> 0", ("step_size", "temperature", "max_norm")),
    ("defenses", "ar_dmvc_am", ">= 0", ("eps", "lam", "gamma")),
    ("defenses", "ar_dmvc_am", ">= 1", ("steps",)),
    ("defenses", "ar_dmvc_am", "> 0", ("step_size", "temperature", "max_norm", "kl_eps")),
    ("defenses", "mutual_info", ">= 0", ("weight",)),
]
SENTENCES: list[tuple[Kind, str, dict[str, Any], str]] = [
    ("models", "aae", {"critic": (0,)}, "critic must be >= 1, got (0,)"),
    ("models", "adec", {"phase_steps": 71}, "phase_steps must be in [1, steps_per_epoch / 2] = [1, 70], got 71 ("),
    ("models", "adec", {"phase_steps": 0}, "got 0 (--set model.phase_steps=70)"),
    ("models", "adec", {"cluster": Schedule()}, "which is T, must be a number >= 2, got None ("),
    ("models", "adec", {"cluster": Schedule(steps_per_epoch=1)}, "got 1 (--set model.cluster.steps_per_epoch=140)"),
    ("models", "clustergan", {"maps": (8,)}, "maps must be two numbers such as [64, 128], got [8]"),
    ("models", "comvc", {"contrast_weight": -0.1}, "contrast_weight must be >= 0 and temperature > 0"),
    ("models", "comvc", {"temperature": 0.0}, "contrast_weight must be >= 0 and temperature > 0"),
    ("models", "comvc", {"hidden": 0}, SIMVC),
    ("models", "dcan", {"minibatch": 700}, "minibatch must be in [1, cluster.batch_size] = [1, 600], got 700"),
    ("models", "dcan", {"min_variance": -0.1}, "min_variance must be in [0, 1), got -0.1"),
    ("models", "dcan", {"final_lr": 0.1}, "final_lr must be in (0, cluster.lr] = (0, 0.001], got 0.1"),
    ("models", "dec", {"hidden": ()}, "hidden must be a list of widths such as [500, 500, 2000], got none"),
    ("models", "dec", {"hidden": (0,)}, "hidden must be >= 1, got (0,)"),
    ("models", "deepcluster", {"maps": ()}, "maps must be a list such as [32, 64], got none"),
    ("models", "depict", {"dropout": (0.1,)}, "dropout needs 2 shares and layer_weights 3 weights"),
    ("models", "depict", {"dropout": (0.1, 1.0)}, "dropout and held_share must be in [0, 1), got [0.1, 1.0] and 0.1"),
    ("models", "eamc", {"attention_lr": 0.0}, "attention_lr and discriminator_lr must be > 0, got 0.0 and 0.001"),
    ("models", "gmm", {"cluster": Schedule()}, "gmm is not trained by descent: cluster.epochs must be 0, got 50"),
    ("models", "imsat", {"hidden": ()}, "hidden must be a list of widths such as [1200, 1200], got none"),
    ("models", "infoddc", {"information_weight": -1.0}, "information_weight and alpha must be >= 0"),
    ("models", "infoddc", {"alpha": -1.0}, "information_weight and alpha must be >= 0"),
    ("models", "jule", {"maps": ()}, "maps must be a list such as [50, 50], got none"),
    ("models", "kingdra", {"high": 10}, "high must be in [low, models - 1] = [1, 9], got 10"),
    ("models", "kingdra", {"hidden": (8,)}, "each hidden layer and the labels, 3, got 4"),
    ("models", "lpvdn", {"locality": ()}, "locality must be a list of widths"),
    ("models", "lpvdn", {"discriminator": (0,)}, "discriminator must be a list of widths"),
    ("models", "multivae", {"temperature": 0.0}, "temperature and max_norm must be > 0, got 0.0 and 10.0"),
    ("models", "sem", {"cluster": Schedule(epochs=100)}, "rounds = 3, got 100 (--set model.cluster.epochs=300)"),
    ("models", "sem", {"temperature": 0.0}, "temperature and max_norm must be > 0, got 0.0 and 10.0"),
    ("models", "simvc", {"hidden": 0}, SIMVC),
    ("models", "simvc", {"relative_sigma": 0.0}, SIMVC),
    ("models", "simvc", {"max_norm": 0.0}, SIMVC),
    ("models", "vade", {"hidden": ()}, "hidden must be a list of widths >= 1 such as [500, 500, 2000], got []"),
    ("models", "vae_kmeans", {"hidden": (8, 0)}, "hidden must be a list of widths >= 1"),
    ("attacks", "apgd", {"objective": "entropy"}, ENTROPY),
    ("attacks", "ensemble", {"members": ()}, "an ensemble needs at least one member"),
    ("attacks", "ensemble", {"members": ("apdg:kl",)}, "Unknown member 'apdg'. Did you mean 'apgd'?"),
    ("attacks", "ensemble", {"members": ("view_gan",)}, "Unknown member 'view_gan'"),
    ("attacks", "ensemble", {"members": ("apgd:entropy",)}, ENTROPY),
    ("attacks", "ensemble", {"members": ("transfer:x",)}, "the member transfer has no option, got 'transfer:x'"),
    ("attacks", "ensemble", {"members": ("pgd", "pgd")}, "every member stands once, got pgd, pgd"),
    ("attacks", "latent_net", {"hidden": (16, 0)}, "hidden must be >= 1, got (16, 0)"),
    ("attacks", "noise", {"kind": "pink"}, "kind must be one of uniform, gaussian, sign, all, got 'pink'"),
    ("attacks", "pgd", {"objective": "kl", "random_start": False}, f"kl {FLAT}"),
    ("attacks", "pgd", {"objective": "displacement", "random_start": False}, f"displacement {FLAT}"),
    ("attacks", "pgd", {"objective": "entropy"}, ENTROPY),
    ("attacks", "square", {"feedback": "none"}, "feedback must be one of soft, hard, got 'none'"),
    (
        "attacks",
        "transfer",
        {"space": "latent", "norm": "l2", "eps": 1.0},
        "embeddings of two models are not comparable",
    ),
    ("attacks", "universal", {"objective": "entropy"}, ENTROPY),
    ("defenses", "ar_dmvc", {"max_norm": math.nan}, "max_norm must be > 0, got nan"),
]


@pytest.mark.parametrize(("kind", "name", "rule", "settings"), RULES)
def test_a_number_that_breaks_its_rule_is_refused_with_it(
    kind: Kind, name: str, rule: str, settings: tuple[str, ...]
) -> None:
    for setting, value in itertools.product(settings, BROKEN[rule]):
        with pytest.raises(ConfigError, match=re.escape(f"{setting} must be {rule}, got {value}")):
            discover.load(kind, name).Config(**{setting: value})


@pytest.mark.parametrize(("kind", "name", "values", "sentence"), SENTENCES)
def test_settings_that_cannot_be_are_refused(kind: Kind, name: str, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        discover.load(kind, name).Config(**values)


YARDSTICKS = ["ae_finch", "agglomerative", "ensc", "lsnmf", "rbf_kmeans", "spectral", "ssc_omp"]


@pytest.mark.parametrize("name", ["aae", "abc", "clustergan", "dc_gmm", "dcan", "gmm", "imsat", "kingdra", *YARDSTICKS])
def test_one_cluster_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="n_clusters must be >= 2, got 1"):
        methods.new_model(name, {}, DataInfo("toy", ((6,),), 9, 1, None, 1.0, ""), 2)


OF_IMAGES = [name for name in MODELS if info_for(name) is IMAGES]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_texts_and_other_vectors_are_refused_by_methods_of_images(name: str) -> None:
    """The tables leave these cells out, and call them NA."""
    config = methods.resolve("models", name, "smoke", {})
    with pytest.raises(ConfigError, match=r"clusters images, texts has vectors of 2000 \(--set model.image_shape="):
        MODELS[name].check(config, DataInfo("texts", ((2000,),), 100, 4, None, 1.0, ""))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_one_cluster_of_images_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="n_clusters must be >= 2, got 1"):
        methods.new_model(name, {}, replace(IMAGES, n_clusters=1), 2)


@pytest.mark.parametrize(("name", "smallest"), [("clustergan", 4), ("deepcluster", 4), ("jule", 7), ("depict", 8)])
def test_images_that_are_too_small_for_the_layers_are_refused_and_larger_ones_are_not(name: str, smallest: int) -> None:
    config = methods.resolve("models", name, "smoke", {})
    for side in (smallest - 1, smallest):
        info = DataInfo("toy", ((1, 20, side),), 200, 4, (0.0, 1.0), 1.0, "")
        if side < smallest:
            said = f"needs images of at least {smallest} x {smallest} pixels, toy has 20 x {side}"
            with pytest.raises(ConfigError, match=said):
                MODELS[name].check(config, info)
        else:
            MODELS[name].check(config, info)
            model = methods.new_model(name, methods.plain(config), info, 2)
            assert len(model.encode((torch.rand(3, 1, 20, side),)).z) == 3


def test_fewer_samples_than_deepcluster_has_pseudo_clusters_are_refused() -> None:
    config = methods.resolve("models", "deepcluster", "smoke", {})
    MODELS["deepcluster"].check(config, replace(IMAGES, n_samples=100))
    with pytest.raises(ConfigError, match=r"= 100 pseudo-clusters of 99 samples .*clusters_per_cluster=9 or less"):
        MODELS["deepcluster"].check(config, replace(IMAGES, n_samples=99))


@pytest.mark.parametrize("name", YARDSTICKS)
def test_more_clusters_than_distinct_samples_are_refused(name: str) -> None:
    """One sample too, which is asked for two clusters; k-means of scikit-learn warns and gives fewer."""
    for x in (torch.eye(2, 6).repeat(20, 1), torch.rand(1, 6)):
        n_clusters = len(x.unique(dim=0)) + 1
        info = DataInfo("toy", ((6,),), len(x), n_clusters, None, 1.0, "")
        model = methods.new_model(name, {}, info, 2)
        said = f"{n_clusters} clusters need as many distinct samples, there are {n_clusters - 1}"
        fit = model.finish if name == "ae_finch" else model.start
        with pytest.raises(ConfigError, match=re.escape(said)):
            fit("cluster", lambda x=x: Embedding(x, (x,)), seed=0)


@pytest.mark.parametrize(
    "name", ["aae", "ae_finch", "ae_kmeans", "clustergan", "dc_gmm", "dcan", "dec", "imsat", "kingdra"]
)
def test_several_views_are_refused_where_a_method_takes_one(name: str) -> None:
    with pytest.raises(ConfigError, match="this method takes one view, pair has 2"):
        methods.new_model(name, {}, DataInfo("pair", ((3,), (4,)), 6, 2, None, 1.0, ""), 2)


@pytest.mark.parametrize("name", [name for name in TRAINED if MODELS[name].pretrained_by is None])
def test_a_method_without_a_pretraining_has_no_losses_of_one(
    name: str, build: Callable[[str], ClusterModel], rows: Callable[[str], Batch]
) -> None:
    with pytest.raises(ConfigError, match="has no pretraining"):
        build(name).losses(rows(name), "pretrain")
