"""What every method promises: each contract is a function that says in one sentence how a method breaks it.

`rc check` puts them to a file of one's own, tests/contracts to every method of the house. They look at a method alone,
on a few samples: shapes, soft labels that sum to 1, a state that is saved and loaded, one seed for the same bits,
gradients that arrive, a budget that is kept, no way for labels to get in, a loss that falls.
"""

import ast
import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError, fields
from types import ModuleType
from typing import Any, get_type_hints

import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.data.base import Batch, Stored
from robust_cluster.defenses.base import Defense
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import answers, embed
from robust_cluster.models.base import ClusterModel, Phase
from robust_cluster.nn.optim import Stateful

Defended = tuple[Surface, Attack, Defense]
LABELS = {"y", "labels", "targets", "classes"}  # names of parameters that would bring labels
VERBS = ("__init__", "losses", "step", "start", "perturb")  # that are given data
HAVE_LABELS = (  # modules that read those of a data set
    "sklearn.datasets",
    "torchvision.datasets",
    *(f"robust_cluster.{name}" for name in ("data.prepare", "measure", "stages", "verbs")),
)
STEPS = 20  # within which a loss falls
FALL = 0.05  # by this share, because a contrastive term has a high floor
LARGEST = 1e6  # of a figure of health


class Broken(AssertionError):
    """A contract does not hold; its message says what is wrong and what to do."""


def hold(kept: object, sentence: str) -> None:
    """Raises Broken with the sentence unless what was promised is kept."""
    if not kept:
        raise Broken(sentence)


def is_near(found: Tensor, wanted: Tensor, rtol: float = 1.3e-6, atol: float = 1e-5) -> bool:
    """Whether two tensors of one shape and type are equal up to rounding; by default as torch.testing has it."""
    try:
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)
    except AssertionError:
        return False
    return True


def unequal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """The names under which two states do not hold the same bits."""
    return [
        name
        for name in {**first, **second}
        if name not in first or name not in second or not first[name].equal(second[name])
    ]


def kept(parts: Mapping[str, Stateful]) -> dict[str, dict[str, Any]]:
    """Copies of the states of some parts."""
    return {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}


def settings_are_whole(config: type[Any], build: Callable[[], Any]) -> None:
    """`Config()` is frozen, and what `build` makes anew of its own values."""
    default = config()
    names = [one.name for one in fields(default)]
    try:
        if names:
            setattr(default, names[0], getattr(default, names[0]))
            raise Broken("Config can be changed after it was made: @dataclass(frozen=True)")
    except FrozenInstanceError:
        pass
    hold(
        build() == default,
        "Config is another when it is made anew from its own values: give each field a type "
        "of int, float, bool, str, Literal, a tuple of one of these, or a group like Schedule",
    )


def takes_no_labels(method: type[Any]) -> None:
    """No verb of a method takes labels, or the arrays and data sets that have them."""
    for name in VERBS:
        verb = getattr(method, name, None)
        if verb is None:
            continue
        where = f"{method.__name__}.{name}"
        named = set(inspect.signature(verb).parameters) & LABELS
        hold(
            not named,
            f"{where} takes {', '.join(sorted(named))}: labels never reach training; a Batch has the views "
            "and the row numbers of samples, and no more",
        )
        for hint in map(str, hints(verb).values()):  # labels are numpy arrays, everything else a tensor
            is_data = "ndarray" in hint or "Dataset" in hint
            hold(not is_data, f"{where} takes {hint}, which may have labels: take a Batch, or tensors")


def hints(verb: Any) -> dict[str, Any]:
    """The types of a function's parameters; none where they cannot be told."""
    try:
        return get_type_hints(verb)
    except (NameError, AttributeError, TypeError):
        return {}


def reads_no_labels(module: ModuleType) -> None:
    """A method's file imports nothing that has the labels of a data set."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        above = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for name in (f"{above}{name}" for name in names):
            found = [one for one in HAVE_LABELS if f"{name}.".startswith(f"{one}.")]
            hold(not found, f"it imports {name}, which has labels: a method sees the views of a batch and no data set")


def embeds(model: ClusterModel, views: Stored) -> None:
    """`encode` gives z (n, d) and a tensor a view, float32 and finite, the log-variance in z's shape."""
    embedding, n = embed(model.eval(), views), len(views[0])
    z = embedding.z
    is_matrix = z.ndim == 2 and len(z) == n and z.dtype == torch.float32
    hold(is_matrix, f"encode must give z ({n}, d) of float32 for {n} samples, got {shape(z)} of {z.dtype}")
    sizes = [len(view) for view in embedding.per_view]
    hold(sizes == [n] * len(views), f"per_view must have {n} rows for each of {len(views)} views, got {sizes}")
    is_alike = embedding.log_var is None or embedding.log_var.shape == z.shape
    hold(is_alike, f"log_var must have the shape of z, {shape(z)}, or be None")
    finite("encode", z)


def assigns(model: ClusterModel, views: Stored) -> None:
    """`assign` gives soft labels (n, K): not negative, each row with the sum 1."""
    soft = answers(model, embed(model.eval(), views))[0].detach()
    n, K = len(views[0]), model.info.n_clusters
    hold(soft.shape == (n, K), f"assign must give ({n}, {K}) for {n} samples and {K} clusters, got {shape(soft)}")
    finite("assign", soft)
    hold(soft.min() >= 0, f"soft labels must be >= 0, the least is {float(soft.min()):.4g}: a softmax makes them so")
    sums = soft.sum(dim=1)
    hold(
        is_near(sums, torch.ones(n)),
        f"each row of assign must sum to 1, one sums to {farthest(sums, 1.0):.6g}: "
        "a softmax, or each row divided by its sum",
    )


def labels(model: ClusterModel, views: Stored) -> None:
    """`labels` gives (n,) int64 in 0..K-1, and a model does not begin with all samples in one cluster."""
    found = answers(model, embed(model.eval(), views))[1]
    n, K = len(views[0]), model.info.n_clusters
    is_vector = found.dtype == torch.int64 and found.shape == (n,)
    hold(is_vector, f"labels must give ({n},) of int64, got {shape(found)} of {found.dtype}")
    hold(
        set(found.tolist()) <= set(range(K)),
        f"labels must be in 0 to {K - 1}, got {int(found.min())} to {int(found.max())}",
    )
    model.train()  # an untrained batch norm knows no statistics yet but those of the batch
    begun = answers(model, model.encode(views))[1]  # type: ignore[arg-type]  # a few dense samples
    hold(
        len(set(begun.tolist())) > 1,
        "all samples are in one cluster once start() is done: give the centers or the "
        "head a start, e.g. k-means on embed().z",
    )


def answers_twice(model: ClusterModel, views: Stored) -> None:
    """Asked twice, a model gives the same embedding and the same soft labels, to the bit."""
    first, second = embed(model.eval(), views), embed(model, views)
    hold(
        first.z.equal(second.z),
        "encode gives another z when it is asked again: eval() must switch dropout and "
        "noise off; F.dropout needs training=self.training",
    )
    is_same = answers(model, first)[0].equal(answers(model, first)[0])
    hold(is_same, "assign gives other soft labels when it is asked again: eval() must switch dropout and noise off")


def decodes(model: ClusterModel, views: Stored) -> None:
    """`decode` gives views in the shapes of the data, or says in a ConfigError that there is no decoder."""
    rows = tuple(view[:] for view in views)
    z = model.eval().encode(rows).z
    try:
        decoded = model.decode(z)
    except ConfigError as error:
        hold("decode" in str(error), f"decode must say that there is no decoder, it says {error}")
        return
    found, wanted = [shape(view) for view in decoded], [shape(view) for view in rows]
    hold(found == wanted, f"decode must give views of shape {', '.join(wanted)}, got {', '.join(found) or 'none'}")


def answers_one_alone(model: ClusterModel, views: Stored) -> None:
    """One sample has the embedding and the soft labels that it has among others."""
    together = embed(model.eval(), views)
    alone = model.encode(tuple(view[7:8] for view in views))
    advice = "eval() must not let a sample depend on others, as batch norm in training or a mean over the batch does"
    hold(
        is_near(alone.z.detach(), together.z[7:8], 1e-4, 1e-4),
        f"a sample alone has another z than among others: {advice}",
    )
    is_same = is_near(model.assign(alone.z), model.assign(together.z)[7:8], 1e-3, 1e-4)
    hold(is_same, f"a sample alone has other soft labels than among others: {advice}")


def is_saved(model: ClusterModel, fresh: ClusterModel, views: Stored) -> None:
    """A new model that is given the saved state says the same of all samples, to the bit."""
    saved = copy.deepcopy(model.eval().state_dict())
    try:
        fresh.eval().load_state_dict(saved)
    except RuntimeError as error:
        raise Broken(f"a new model does not take the state of a trained one: {line(error)}") from error
    first, second = embed(model, views), embed(fresh, views)
    advice = "what is learned must be a Parameter or an nn.Buffer, for a checkpoint has nothing else"
    hold(first.z.equal(second.z), f"a saved and loaded model gives another z: {advice}")
    is_same = model.assign(first.z).equal(fresh.assign(second.z))
    hold(is_same, f"a saved and loaded model gives other soft labels: {advice}")


def begins_alike(make: Callable[[], ClusterModel], when: str) -> None:
    """Two models of one seed have the same bits."""
    found = unequal(make().state_dict(), make().state_dict())
    hold(
        not found,
        f"two models of one seed differ {when} in {some(found)}: draw from torch's generator, and seed "
        "what has one of its own with the seed that start() is given",
    )


def steps(model: ClusterModel, batch: Batch, phase: Phase, count: int) -> list[dict[str, float]]:
    """The named terms of so many steps on one batch."""
    torch.manual_seed(5)
    model.train()
    optimizers = model.optimizers(phase)
    return [model.step(batch, phase, optimizers) for _ in range(count)]


def steps_alike(make: Callable[[], ClusterModel], batch: Batch, phase: Phase) -> None:
    """Two models of one seed take the same steps, to the bit."""
    first, second = make(), make()
    advice = "draw from torch's generator, and keep nothing outside of the model"
    is_same = steps(first, batch, phase, 2) == steps(second, batch, phase, 2)
    hold(is_same, f"two models of one seed have other losses after the same steps: {advice}")
    found = unequal(first.state_dict(), second.state_dict())
    hold(not found, f"two models of one seed differ after the same steps in {some(found)}: {advice}")


def ignores_row_numbers(make: Callable[[], ClusterModel], batch: Batch, phase: Phase) -> None:
    """The first steps do not depend on which rows of the data set the samples are, by which labels are looked up."""
    other = Batch(batch.views, batch.index.flip(0))
    is_same = steps(make(), batch, phase, 2) == steps(make(), other, phase, 2)
    hold(
        is_same,
        "its losses change with the row numbers of the same samples, as those of a method that looks labels "
        "up by row: what belongs to a row is made in start(), of the embedding",
    )


def loss_falls(model: ClusterModel, views: Stored, batch: Batch, phase: Phase) -> None:
    """The sum of the terms is lower after 20 steps on one batch."""
    if phase == "cluster" and len(model.losses(batch, phase)) == 1:
        # DEC learns from its own clusters alone, and an untrained network has none; DeepCluster takes even those
        steps(model, batch, "pretrain", STEPS if model.has_pretraining(model.config) else 0)
        model.start("cluster", lambda: embed(model, views), seed=0)
    log = steps(model, batch, phase, STEPS)
    for number, terms in enumerate(log, start=1):
        wrong = [name for name, value in terms.items() if not abs(value) < float("inf")]
        hold(
            not wrong,
            f"the loss term {some(wrong)} is NaN or infinite in step {number} of {phase}: "
            "a logarithm of 0, a division by 0 or too large a step?",
        )
    # what an opponent raises is no measure of learning
    totals = [sum(value for term, value in terms.items() if term != "adversarial") for terms in log]
    first, last = sum(totals[:3]), sum(totals[-3:])
    hold(
        last < first - FALL * abs(first),
        f"the loss of {phase} does not fall in {STEPS} steps on one batch: from "
        f"{first / 3:.4g} to {last / 3:.4g}; do the losses have gradients, and optimizers() all that learns?",
    )


def reports_its_losses(model: ClusterModel, batch: Batch, phase: Phase) -> None:
    """What a step reports are the terms of `losses` for its batch."""
    torch.manual_seed(5)
    wanted = {key: term.item() for key, term in model.losses(batch, phase).items()}
    found = steps(model, batch, phase, 1)[0]
    hold(found.keys() == wanted.keys(), f"step reports {some(found)}, losses gives {some(wanted)}: the same names")
    wrong = [name for name in found if not near(found[name], wanted[name])]
    hold(
        not wrong,
        f"step reports other values than losses gives of {some(wrong)}: report the losses of the batch, "
        "from before the update",
    )


def has_gradients(model: ClusterModel, batch: Batch) -> None:
    """A gradient of the soft labels reaches the embedding and every view."""
    model.eval().requires_grad_(False)
    views = tuple(view.clone().requires_grad_() for view in batch.views)
    z = model.encode(views).z.detach().requires_grad_()
    cases = {"the embedding": ((z,), model.assign(z)), "view": (views, model.assign(model.encode(views).z))}
    for what, (points, soft) in cases.items():
        advice = "encode and assign must be differentiable: no detach(), no_grad(), numpy or argmax on the way"
        hold(soft.requires_grad, f"no gradient reaches {what}: {advice}")
        soft.max(dim=1).values.sum().backward()
        for number, point in enumerate(points):
            where = what if what != "view" else f"view {number}"
            hold(point.grad is not None, f"no gradient reaches {where}: {advice}")
            assert point.grad is not None
            hold(point.grad.isfinite().all(), f"the gradient at {where} is NaN or infinite")
            hold(point.grad.abs().sum() > 0, f"the gradient at {where} is 0 everywhere: {advice}")


def takes_pretrained(model: ClusterModel, owner: ClusterModel) -> None:
    """The part that is pretrained has the weights of the method that pretrains it, and the settings that it names."""
    try:
        model.pretrained().load_state_dict(owner.pretrained().state_dict())
    except RuntimeError as error:
        what = f"pretrained() is another network than that of {model.pretrained_by}, which pretrains it"
        raise Broken(f"{what}: {line(error)}") from error
    missing = set(model.pretrain_fields) - {one.name for one in fields(owner.config)}
    hold(not missing, f"pretrain_fields has {some(missing)}, which is no setting of {model.pretrained_by}")
    hold(
        model.pretrain_fields == owner.pretrain_fields,
        f"pretrain_fields must be that of {model.pretrained_by}: {some(owner.pretrain_fields)}",
    )


def is_healthy(model: ClusterModel, views: Stored) -> None:
    """`health` gives finite numbers."""
    with torch.no_grad():
        found = model.eval().health(embed(model, views))
    wrong = [name for name, value in found.items() if not (isinstance(value, float) and abs(value) < LARGEST)]
    hold(not wrong, f"health must give finite floats, {some(wrong)} is none: float(...)")


def stays_within_budget(attack: Attack, surface: Surface, batch: Batch) -> None:
    """Moved points have the points' shape, are finite, moved and inside the budget; the victim keeps every bit."""
    surface.model.zero_grad(set_to_none=True)
    victim = copy.deepcopy(surface.model.state_dict())
    for _ in range(2 if attack.trained else 0):
        attack.step(surface, batch)
    clean, moved = surface.point(batch), attack.perturb(surface, batch)
    hold(len(clean) == len(moved), f"perturb must give {len(clean)} tensors, one a view, got {len(moved)}")
    for before, after, allowed in zip(clean, moved, attack.budget.clip(clean, moved), strict=True):
        hold(after.shape == before.shape, f"moved points must have the shape {shape(before)}, got {shape(after)}")
        finite("perturb", after)
        hold(not after.equal(before), "perturb moves nothing: every point is where it was")
        beyond = float((after - allowed).detach().abs().max())
        budget = attack.budget
        hold(
            is_near(after, allowed, 1e-4, 1e-4),
            f"a moved point is {beyond:.4g} outside of the budget ({budget.norm}, "
            f"eps {budget.eps:.4g}, box {budget.bounds}): return self.budget.clip(clean, moved)",
        )
    changed = unequal(victim, surface.model.state_dict())
    hold(not changed, f"the attack changed {some(changed)} of the victim, which must keep every bit")
    collected = [name for name, parameter in surface.model.named_parameters() if parameter.grad is not None]
    hold(
        not collected,
        f"the attack left gradients on the victim's {some(collected)}: torch.autograd.grad, or descend "
        "with its own optimizer",
    )


def moves_without_gradients(attack: Attack, surface: Surface, batch: Batch) -> None:
    """Points move alike where the caller has switched gradients off, as a defense and the measurement have."""
    moved = []
    for is_enabled in (True, False):
        torch.manual_seed(3)
        with torch.set_grad_enabled(is_enabled):
            moved.append(attack.perturb(surface, batch)[0].detach())
    hold(
        moved[0].equal(moved[1]),
        "points move otherwise where gradients are switched off: with torch.enable_grad() around what needs them",
    )


def attacks_alike(make: Callable[[], Attack], surface: Surface, batch: Batch) -> None:
    """Two attackers of one seed take the same step and move points to the same bits."""
    runs = []
    for _ in range(2):
        attack = make()
        torch.manual_seed(3)
        runs.append((attack.step(surface, batch), attack.perturb(surface, batch)[0]))
    advice = "draw from torch's generator, and keep nothing outside of the attacker"
    hold(runs[0][0] == runs[1][0], f"two attackers of one seed report other losses: {advice}")
    hold(runs[0][1].equal(runs[1][1]), f"two attackers of one seed move points to other places: {advice}")


def attack_is_saved(first: Attack, second: Attack, surface: Surface, batch: Batch) -> None:
    """An attacker that is given the saved state of another moves points as that one does."""
    first.step(surface, batch)
    for part, saved in first.state().items():
        second.state()[part].load_state_dict(saved.state_dict())
    moved = []
    for attack in (first, second):
        torch.manual_seed(3)
        moved.append(attack.perturb(surface, batch)[0])
    hold(
        moved[0].equal(moved[1]),
        "a saved and loaded attacker moves points to other places: state() must name all that learns",
    )


def attack_is_declared(attack: Attack) -> None:
    """An attack says what it moves and knows; one that learns has epochs and a state, another has neither."""
    allowed: dict[str, Sequence[str]] = {
        "space": ("input", "latent"),
        "feedback": ("gradient", "score", "label", "none"),
        "knowledge": ("white", "score", "label", "transfer", "none"),
    }
    for name, values in allowed.items():
        value = getattr(attack, name, None)
        hold(value in values, f"{name} must be one of {', '.join(values)}, got {value!r}")
    hold(hasattr(attack, "budget"), "budget is missing: Budget(norm, eps, bounds), or Budget() for none")
    has = "a state" if attack.state() else "no state"
    hold(bool(attack.state()) is attack.trained, f"trained is {attack.trained}, and state() has {has}")
    epochs = attack.schedule.epochs
    hold((epochs > 0) is attack.trained, f"trained is {attack.trained}, and the schedule has {epochs} epochs")


def defense_is_declared(defense: Defense) -> None:
    """A defense has all that a stage asks it for."""
    needed = (*Defense.__annotations__, *(name for name in vars(Defense) if inspect.isfunction(vars(Defense)[name])))
    missing = [name for name in (*needed, "check") if not name.startswith("_") and not hasattr(defense, name)]
    hold(not missing, f"the defense has no {some(missing)}: see robust_cluster/defenses/base.py")


def defends_alike(make: Callable[[], Defended], batch: Batch) -> None:
    """Two defenses of one seed take the same steps, to the bit."""
    runs = []
    for _ in range(2):
        surface, attack, defense = make()
        runs.append(([defense.step(surface, attack, batch) for _ in range(2)], surface.model.state_dict()))
    advice = "draw from torch's generator, and keep nothing outside of the defense"
    hold(runs[0][0] == runs[1][0], f"two defenses of one seed have other losses after the same steps: {advice}")
    found = unequal(runs[0][1], runs[1][1])
    hold(not found, f"models that two defenses of one seed trained differ in {some(found)}: {advice}")


def defense_learns(victim: ClusterModel, defended: Defended, batch: Batch) -> None:
    """The loss falls while the attacker keeps every bit; `victim`: another model of the same seed."""
    own = victim.losses(batch, "cluster").keys()
    surface, attack, defense = defended
    before = kept(attack.state())
    terms = defense.step(surface, attack, batch)
    missing = own - terms.keys()
    hold(not missing, f"the defense leaves {some(missing)} of the victim's own losses out")
    totals = [sum(terms.values())]
    # where nearly all of the loss is the defense's, it learns later
    count = STEPS if sum(terms[key] for key in own) > totals[0] / 6 else 100
    totals += [sum(defense.step(surface, attack, batch).values()) for _ in range(count - 1)]
    first, last = sum(totals[:3]), sum(totals[-3:])
    hold(
        last < 0.9 * first,
        f"the loss does not fall in {count} steps on one batch: from {first / 3:.4g} to {last / 3:.4g}",
    )
    for part in (name for name in attack.state() if name != "optimizer"):
        found = unequal(before[part], attack.state()[part].state_dict())
        hold(not found, f"the defense changed {some(found)} of the attacker, whom the stage trains where it says so")


def settled(model: ClusterModel, batch: Batch) -> list[str]:
    """The terms that one forward pass settles, without draws of their own, e.g. MIE's shuffle."""
    found = []
    with torch.no_grad():
        outputs = model(batch.views)
        for seed in (6, 7):
            torch.manual_seed(seed)
            found.append(model.losses(batch, "cluster", outputs))
    return [key for key, term in found[0].items() if term.equal(found[1][key])]


def keeps_victims_terms(defended: Defended, batch: Batch) -> None:
    """The victim's own terms are part of what the defense reports, with their values."""
    surface, attack, defense = defended
    torch.manual_seed(5)
    own = {key: term.item() for key, term in surface.model.losses(batch, "cluster").items()}
    torch.manual_seed(5)
    terms = defense.step(surface, attack, batch)
    missing = own.keys() - terms.keys()
    hold(not missing, f"the defense leaves {some(missing)} of the victim's own losses out")
    wrong = [key for key in settled(surface.model, batch) if not near(terms[key], own[key])]
    hold(
        not wrong,
        f"the victim's own losses {some(wrong)} have other values in the defense: losses(batch, "
        "'cluster', outputs) of its one forward pass, before any draw",
    )


def defense_is_saved(first: Defended, second: Defended, batch: Batch) -> None:
    """A defense that is given the saved state of another goes on as that one does."""
    surface, attack, defense = first
    defense.step(surface, attack, batch)
    again, same_attack, resumed = second
    again.model.load_state_dict(surface.model.state_dict())
    for part, saved in defense.state().items():
        resumed.state()[part].load_state_dict(copy.deepcopy(saved.state_dict()))
    torch.manual_seed(5)
    wanted = defense.step(surface, attack, batch)
    torch.manual_seed(5)
    is_same = resumed.step(again, same_attack, batch) == wanted
    hold(is_same, "a saved and loaded defense goes on otherwise: state() must name all that learns, its optimizers too")


def resumes_alike(whole: Mapping[str, Any], resumed: Mapping[str, Any]) -> None:
    """A run that was stopped and resumed has the log, the scores and the checkpoint of one that was not."""
    advice = "what the next epoch depends on must be a Parameter, an nn.Buffer, in fit.parts or in state()"
    for name, value in whole.items():
        is_same = same(resumed[name], value)
        hold(
            is_same,
            f"a training that is stopped and resumed ends with other {name} than an uninterrupted one: {advice}",
        )


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints, or whatever is made of such, hold the same values."""
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    return bool(torch.equal(first, second)) if isinstance(first, Tensor) else bool(first == second)


def shape(tensor: Any) -> str:
    """ "(50, 6)" of a tensor; of anything else its type."""
    return str(tuple(tensor.shape)) if isinstance(tensor, Tensor) else type(tensor).__name__


def finite(verb: str, values: Tensor) -> None:
    """Raises Broken where a tensor (n, ...) has NaN or infinite values."""
    rows = ~values.detach().flatten(1).isfinite().all(dim=1)
    what = f"{verb} gives NaN or infinite values for {int(rows.sum())} of {len(rows)} samples"
    hold(not rows.any(), f"{what}: a logarithm or a root of 0, a division by 0?")


def farthest(values: Tensor, wanted: float) -> float:
    """The value that is farthest from what it should be."""
    return float(values[(values - wanted).abs().argmax()])


def near(found: float, wanted: float) -> bool:
    """Whether two numbers are equal up to a millionth."""
    return abs(found - wanted) <= max(1e-6 * abs(wanted), 1e-12)


def some(names: Any, most: int = 4) -> str:
    """Names with commas between, the first few of many."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def line(error: Exception) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())
