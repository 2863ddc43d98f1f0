"""Checks 18 to 26: whether the numbers support what is concluded from them about a model or a defense."""

import copy
import math
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack
from robust_cluster.audit import probes
from robust_cluster.audit.base import ACC_KEPT, FLIP, Certificate, Evidence, Status, Verdict, graded, lightened, not_run
from robust_cluster.audit.mechanics import ROUNDING
from robust_cluster.audit.strength import STILL, cannot_compare
from robust_cluster.data.base import Views
from robust_cluster.measure.metric import Metric
from robust_cluster.metrics.accuracy import accuracy_under, chance_accuracy, match
from robust_cluster.metrics.ari import ari
from robust_cluster.models.base import ClusterModel, Embedding

PLANTED_ROWS = 40  # samples, each with a head of its own
PLANTED_SHARE = 0.95  # of the planted points must be found
PLANTED_AT = 0.9  # of the way to the planted point's representation, where the cluster changes
PLANTED_SCALE = 10.0  # log units from the clean point to the planted one
FAR = -30.0  # log units of clusters that take no part
TWIN_FLIPS = 0.9  # the flip rate at which an undefended model counts as broken
REFITS = 3
AGREEMENT = (0.99, 0.95)  # of surrogate and head: the check warns below the first, fails below the second
CERTIFIED_ROWS = 200
SMOOTHED_DRAWS = 400
CONTRADICTED = 1e-4  # p of the votes at a moved point, were the certified cluster still the most frequent
SEEDS = (3, 2)  # of the model, of the attack
LARGE = 0.05  # of ACC: where noise costs more, eps is large


class PlantedHead(ClusterModel):
    """A model whose head is replaced for one sample: the cluster changes at 90 % of the way to a known point's z.

    The way is the line from the clean z to the planted one; on it the other cluster's log-odds rise by 10. That is the
    next one by number, or `other`.
    """

    def __init__(
        self, victim: ClusterModel, clean: Tensor, planted: Tensor, own: int, other: int | None = None
    ) -> None:
        super().__init__(victim.config, victim.info, victim.latent_dim)
        self.victim, self.clean, self.own = victim, clean, own
        way = planted - clean
        self.way = way / way.square().sum()
        self.other = (own + 1) % victim.info.n_clusters if other is None else other

    def encode(self, views: Views) -> Embedding:
        """The victim's."""
        return self.victim.encode(views)

    def consensus(self, embedding: Embedding) -> Tensor:
        """The victim's."""
        return self.victim.consensus(embedding)

    def log_odds(self, z: Tensor) -> Tensor:
        """Logits (n, K) that are linear in z."""
        logits = z.new_full((len(z), self.info.n_clusters), FAR)
        rise = PLANTED_SCALE * ((z - self.clean.to(z.dtype)).flatten(1) @ self.way.to(z.dtype).flatten() - PLANTED_AT)
        ones = torch.ones(len(z), dtype=torch.long, device=z.device)[:, None]
        return logits.scatter(1, self.own * ones, 0.0).scatter(1, self.other * ones, rise[:, None])

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K)."""
        return self.log_odds(z).softmax(dim=1)

    def log_assign(self, z: Tensor) -> Tensor:
        """Their logarithms."""
        return self.log_odds(z).log_softmax(dim=1)


def planted(evidence: Evidence) -> Verdict:
    """The attack finds, for at least 95 % of the samples, a point that is planted in another cluster.

    For every sample a random point of its ball is planted: the victim gets a head that keeps the clean cluster up to
    90 % of the way to that point's representation and changes it there. Value: the share of samples that the attack
    flips under this head, of at most 40. An attack that sees scores or labels only is warned of. Source: Zimmermann et
    al. 2022, here for heads of clusterings.
    """
    attacker, surface = evidence.attacker, evidence.surface
    if (reason := cannot_compare(evidence)) is not None:
        return reason
    if evidence.knowledge in ("none", "transfer") or attacker.blind:
        return not_run("the attack does not look at the victim's head", needed=False)
    if attacker.trained:
        return not_run("a learned attack would have to be trained against every planted head")
    if surface.bn == "batch" or surface.model.training:
        return not_run("a sample alone has no statistics of a batch")
    few = evidence.probe(PLANTED_ROWS)
    torch.manual_seed(evidence.seed)
    points = probes.noise_draw(few, "sign" if attacker.budget.norm == "linf" else "gaussian")
    with torch.no_grad():
        clean, far = surface.latent(few.clean), surface.latent(points)
    apart, lengths = (far - clean).flatten(1).norm(dim=1), clean.flatten(1).norm(dim=1)
    rows = (apart > 1e-6 * (1 + lengths)).nonzero()[:, 0].tolist()

    if not rows:
        return not_run("no random point of the ball has another representation than its sample")
    found = sum(is_found(few, row, (clean[row], far[row])) for row in rows)
    value = found / len(rows)
    note = f"{len(rows) - found} of {len(rows)} planted points were not found" if value < PLANTED_SHARE else ""
    weak: Status = "fail" if evidence.knowledge == "white" else "warn"
    return Verdict(weak if note else "pass", value, PLANTED_SHARE, len(rows), note)


def is_found(evidence: Evidence, row: int, ends: tuple[Tensor, Tensor]) -> bool:
    """Whether the attack flips one sample under its planted head."""
    one = evidence.take(torch.tensor([row]))
    model = PlantedHead(evidence.surface.model, *ends, int(evidence.own[row]), evidence.target)
    model.eval().requires_grad_(False)
    memory = Embedding(ends[0][None], (ends[0][None],)) if evidence.surface.space == "latent" else None
    index = one.batch.index if memory is None else torch.zeros_like(one.batch.index)
    surface = replace(evidence.surface, model=model, memory=memory)
    under = replace(one, surface=surface, batch=replace(one.batch, index=index))
    return bool(under.flips(under.move(evidence.build({})))[0])


def twin_breaks(evidence: Evidence) -> Verdict:
    """The same attack breaks the undefended model: if it does not, its failure on the defended one says little.

    Value: its flip rate there. It passes at chance ACC under the clean matching, or at 90 % flips, and warns where it
    reaches neither but flips more than on the defended model. Source: Carlini et al. 2019.
    """
    if evidence.defense is None:
        return not_run("the model has no defense", needed=False)
    found = evidence.flips(evidence.points)
    if evidence.undefended is not None and not evidence.attacker.trained:
        there = replace(evidence, surface=evidence.undefended, moved=None)
        points = there.move(evidence.build({}))
        after = there.clusters(points)
        there_flips = there.flips(points) & (there.own != there.target)  # that model may have had some there already
        value, broken = probes.rate(there_flips), False
        if evidence.labels is not None:
            n_clusters = evidence.surface.model.info.n_clusters
            mapping = match(evidence.labels, there.own, n_clusters=n_clusters)
            kept = accuracy_under(mapping, evidence.labels, after)
            broken = kept <= chance_accuracy(evidence.labels, n_clusters)
        is_above = probes.mean_bound(there_flips.astype(float) - found, side="lower") > 0
    elif evidence.twin is not None:
        flips, left, chance = (metric.read(evidence.twin) for metric in (FLIP, ACC_KEPT, Metric("chance")))
        if flips is None:
            return not_run("the record of the attack on the undefended model has no flip rate")
        value, broken = flips, left is not None and chance is not None and left <= chance
        is_above = value > probes.rate(found)
    else:
        return not_run("the attack on the undefended model is not at hand")
    note = f"{value:.1%} flip without the defense, {probes.rate(found):.1%} with it"
    status: Status = "pass" if broken or value >= TWIN_FLIPS else "warn" if is_above else "fail"
    return Verdict(status, value, TWIN_FLIPS, len(evidence), note)


def adaptive_gap(evidence: Evidence) -> Verdict:
    """A defended model was also attacked with the defense's own loss, and the gap to this attack is shown.

    Value: the adaptive attack's flip rate less this one's. Without an adaptive attack the claim of a defense fails,
    unless the defense has no loss of the moved points and a white-box attack was made afresh. Source: Carlini et al.
    2019; Tramer et al. 2020.
    """
    if evidence.defense is None:
        return not_run("the model has no defense", needed=False)
    beside = evidence.record.get("adaptive")
    if beside is None:
        return Verdict("fail", note=f"no attack with the loss of {evidence.defense} itself stands beside this one")
    there, here = beside["adaptive"], beside["afresh"]
    if there is not None:
        return Verdict("pass", there - here, n=len(evidence), note=f"adaptive {there:.1%}, this attack {here:.1%}")
    note = f"{evidence.defense} has no loss of the points that are moved; this attack, made afresh, is {{}}"
    if evidence.knowledge == "white":
        return not_run(note.format("white-box"), needed=False)
    return Verdict("fail", note=note.format("not white-box"))


def fair_use(evidence: Evidence) -> Verdict:
    """The record states what the attack knows of the victim, and of a learned one its training rows and radius.

    Gradients that flow back through the victim make an attack white-box, whatever it is called. A learned attack's
    threat model has `train_share`, and each line of its "radii" the radius that it was `trained_at`; if it was scored
    on the rows that it learned from, the check warns. Value: problems found. Source: the released code of Chhabra et
    al. 2022 and of AR-DMVC.
    """
    attacker = evidence.attacker
    if not evidence.threat:
        return not_run("the record states no threat model")
    problems, warnings = [], []
    if (knowledge := evidence.threat.get("knowledge")) is None:
        problems.append("the knowledge of the victim is not stated")
    elif knowledge != "white" and takes_gradients(evidence):
        problems.append(f"gradients flow through the victim, and the knowledge is called {knowledge}")
    if attacker.trained:
        share = evidence.threat.get("train_share")
        if share is None:
            problems.append("the rows that it was trained on are not stated")
        elif share == 1:
            warnings.append("scored on the rows that it learned from")
        own = probes.pixels(evidence)  # a resumed run may have taken the attacker's last step before
        radii = [(line["eps"], line.get("trained_at")) for line in evidence.record.get("radii") or []]
        others = {eps for eps, at in radii if not math.isclose(own if at is None else at, eps, rel_tol=ROUNDING)}
        if others:
            problems.append(f"not trained for eps {', '.join(sorted(format(eps, 'g') for eps in others))}")
    note = "; ".join(problems + warnings)
    return Verdict(graded(problems, warnings), float(len(problems)), 0.0, len(evidence), note)


def takes_gradients(evidence: Evidence) -> bool:
    """Whether a gradient flows back through the victim when the attack moves points or learns."""
    few, found = evidence.probe(8), probes.Gradients()
    surface = probes.wired(few.surface, found)
    few.propose(few.rebuilt(lightened(few.attacker)), surface)
    if few.attacker.trained:
        few.build({}).step(surface, few.batch)
    return found.flowed


def refit_control(evidence: Evidence) -> Verdict:
    """Moved points change a clustering fitted anew more than other seeds of the fit do.

    Value: 1 - ARI of the fits to clean and to moved points; threshold: the largest 1 - ARI of fits to the clean points
    with other seeds. It fails where the record's threat is a fit anew (`stage` "re-fit"), and is a note elsewhere.
    Source: Biggio et al. 2013; Chhabra et al. 2020, whose effects are on fits.
    """
    claimed = evidence.threat.get("stage") == "re-fit"
    model, surface = evidence.surface.model, evidence.surface
    with torch.no_grad():
        clean = torch.cat([surface.latent(tuple(v[rows] for v in evidence.clean)) for rows in evidence.portions()])
        moved = torch.cat([surface.latent(tuple(v[rows] for v in evidence.points)) for rows in evidence.portions()])
    if len(evidence) < model.info.n_clusters:
        return not_run("there are fewer points than clusters", needed=claimed)
    first = model.refit_labels(clean, evidence.seed)
    if first is None:
        return not_run("the model labels by its head: nothing is fitted anew", needed=claimed)
    again = [model.refit_labels(clean, evidence.seed + 1 + number) for number in range(REFITS)]
    after = model.refit_labels(moved, evidence.seed)

    def apart(labels: Tensor | None) -> float:
        return 0.0 if labels is None else 1 - ari(first.cpu().numpy(), labels.cpu().numpy())

    value, control = apart(after), max(apart(labels) for labels in again)
    if value > control:
        return Verdict("pass", value, control, len(evidence))
    note = "other seeds of the fit change it as much as the attack"
    return Verdict("fail" if claimed else "note", value, control, len(evidence), note)


def surrogate_agrees(evidence: Evidence) -> Verdict:
    """The soft labels that gradients are taken of agree with the head's own labels at 99 % of clean and moved points.

    Below 99 % it warns, below 95 % it fails. Value: the smaller agreement of `assign` and `log_assign` with `labels`,
    which differ for heads without gradients such as k-means. Source: Athalye et al. 2018, backward pass differentiable
    approximation.
    """
    model, surface = evidence.surface.model, evidence.surface
    agreed: dict[str, list[npt.NDArray[np.bool_]]] = {"assign": [], "log_assign": []}
    with torch.no_grad():
        for points in (evidence.clean, evidence.points):
            for rows in evidence.portions():
                z = surface.latent(tuple(view[rows] for view in points))
                labels = model.labels(z)
                for name, soft in (("assign", model.assign(z)), ("log_assign", model.log_assign(z))):
                    agreed[name].append((soft.argmax(dim=1) == labels).cpu().numpy())
    value = min(probes.rate(np.concatenate(parts)) for parts in agreed.values())
    status = graded(value < AGREEMENT[1], value < AGREEMENT[0])
    note = "" if status == "pass" else f"the surrogate has another label at {1 - value:.1%} of the points"
    return Verdict(status, value, AGREEMENT[0], 2 * len(evidence), note)


def certificate_holds(evidence: Evidence) -> Verdict:
    """Inside their certified radius, no more points leave their smoothed cluster than alpha allows.

    Points are moved along the mean gradient of noisy copies, and along the audited attack's own direction, to 0.999 of
    the radius; a vote of 400 draws decides. No radius may be above what n draws can certify, sigma Phi^-1(alpha^(1/n)).
    Value: the share contradicted, on at most 200 points. Source: Cohen et al. 2019; of 13 tables published with that
    paper's code 8 have radii above the cap of the alpha it states.
    """
    from scipy import stats  # late: it takes a second, and every run imports this file

    certificate = evidence.certificate
    if certificate is None:
        return not_run("there is no certificate of this model on these rows", needed=False)
    cap = certificate.sigma * float(stats.norm.ppf(certificate.alpha ** (1 / certificate.n)))
    above = int((certificate.radius > cap * (1 + 1e-6)).sum())
    if above:
        note = f"{above} radii are above {cap:.6g}, the most that {certificate.n} draws certify"
        return Verdict("fail", float(certificate.radius.max()), cap, len(evidence), note)
    sure = np.flatnonzero((certificate.labels >= 0) & (certificate.radius > 0))
    if not len(sure):
        return not_run("every point was abstained")
    few = evidence.take(torch.as_tensor(sure)).probe(CERTIFIED_ROWS)
    kept = few.certificate or certificate
    torch.manual_seed(evidence.seed)
    candidates = [along(few, kept, smoothed_gradients(few, kept))]
    candidates += [along(few, kept, tuple(p - c for p, c in zip(few.points, few.clean, strict=True)))]
    broken = np.zeros(len(few), dtype=bool)
    for points in candidates:
        votes = own_votes(few, kept, points)
        p = stats.binom.cdf(votes, SMOOTHED_DRAWS, 0.5)
        broken |= p < CONTRADICTED
    count, allowed = int(broken.sum()), int(stats.binom.ppf(0.99, len(few), kept.alpha))
    note = f"{count} of {len(few)} certified points leave their cluster, allowed {allowed}" if count > allowed else ""
    return Verdict("fail" if note else "pass", probes.rate(broken), kept.alpha, len(few), note)


def smoothed_gradients(evidence: Evidence, certificate: Certificate) -> Views:
    """The mean gradient of the margin over noisy copies of the clean points."""
    sums = tuple(torch.zeros_like(view) for view in evidence.clean)
    for _ in range(8):
        noisy = tuple(view + certificate.sigma * torch.randn_like(view) for view in evidence.clean)
        sums = tuple(a + b for a, b in zip(sums, probes.gradients(evidence, noisy), strict=True))
    return sums


def along(evidence: Evidence, certificate: Certificate, directions: Views) -> Views:
    """Points at 0.999 of each certified radius along directions, whose L2 norm is over all views together."""
    norms = torch.stack([view.flatten(1).square().sum(dim=1) for view in directions]).sum(dim=0).sqrt().clamp_min(1e-30)
    lengths = torch.as_tensor(certificate.radius, dtype=norms.dtype, device=norms.device) * 0.999 / norms
    pairs = zip(evidence.clean, directions, strict=True)
    return tuple(clean + lengths.view(-1, *[1] * (d.ndim - 1)) * d for clean, d in pairs)


def own_votes(evidence: Evidence, certificate: Certificate, points: Views) -> npt.NDArray[np.int64]:
    """How many of the noisy copies of each point are in its certified cluster, (n,)."""
    votes = np.zeros(len(evidence), dtype=np.int64)
    for _ in range(SMOOTHED_DRAWS):
        noisy = tuple(view + certificate.sigma * torch.randn_like(view) for view in points)
        votes += evidence.clusters(noisy) == certificate.labels
    return votes


def seeds_and_leakage(evidence: Evidence) -> Verdict:
    """No label of the data reaches the attack, and there are 3 seeds of the model with 2 of the attack each.

    It fails for a batch that has more than views and row numbers, or where points move elsewhere once the data set's
    labels, and nothing else, are in a random order. Fewer seeds are noted: the cell is a single run, or a few.
    Value: samples whose points depend on labels. Source: AutoAttack issue 54.
    """
    extra = {field.name for field in fields(evidence.batch)} - {"views", "index"}
    if extra:
        return Verdict("fail", None, 0.0, len(evidence), f"a batch has {', '.join(sorted(extra))}")
    if evidence.build_shuffled is None:
        return not_run("there is no attacker built on shuffled labels; batches have none by their type")
    few = evidence.probe(PLANTED_ROWS)
    runs = [learned_a_little(few, build({})) for build in (evidence.build, evidence.build_shuffled)]
    apart = np.zeros(len(few), dtype=bool)
    for one, other in zip(*(few.propose(attacker) for attacker in runs), strict=True):
        apart |= (one != other).flatten(1).any(dim=1).cpu().numpy()
    count = int(apart.sum())
    if count:
        return Verdict("fail", float(count), 0.0, len(few), f"{count} points move elsewhere when labels are shuffled")
    models, attacks = (len({pair[which] for pair in evidence.seeds}) for which in (0, 1))
    if models >= SEEDS[0] and attacks >= SEEDS[1]:
        return Verdict("pass", 0.0, 0.0, len(few), f"{models} seeds of the model, {attacks} of the attack")
    name = "single run" if len(evidence.seeds) < 2 else f"{len(evidence.seeds)} runs"
    note = f"{name}: fewer than {SEEDS[0]} seeds of the model or {SEEDS[1]} of the attack"
    return Verdict("note", 0.0, 0.0, len(few), note)


def learned_a_little(evidence: Evidence, attacker: Attack) -> Attack:
    """The attacker after two steps of training, if it is one that learns."""
    torch.manual_seed(evidence.seed)
    surface = replace(evidence.surface, model=copy.deepcopy(evidence.surface.model))
    for _ in range(2 if attacker.trained else 0):
        attacker.step(surface, evidence.batch)
    return attacker


def semantics(evidence: Evidence) -> Verdict:
    """Noise of the attack's size costs at most 5 points of ACC under the clean matching: if more, eps is large.

    Value: what the worst of sign, uniform and Gaussian noise costs; the flip rate where there are no labels. It is a
    note and no fault. Source: Carlini et al. 2019 on radii at which the meaning of a sample changes.
    """
    if probes.is_still(evidence):
        return not_run(STILL, needed=False)
    torch.manual_seed(evidence.seed)
    if evidence.attacker.budget.norm is None:
        draws = [probes.equal_noise(evidence, evidence.points)]
    else:
        draws = [probes.noise_draw(evidence, kind) for kind in ("sign", "uniform", "gaussian")]
    after = [evidence.clusters(points) for points in draws]
    if evidence.labels is None:
        value, what = max(float(np.mean(labels != evidence.own)) for labels in after), "flips"
    else:
        mapping = match(evidence.labels, evidence.own, n_clusters=evidence.surface.model.info.n_clusters)
        before = accuracy_under(mapping, evidence.labels, evidence.own)
        value, what = before - min(accuracy_under(mapping, evidence.labels, labels) for labels in after), "costs ACC"
    if value > LARGE:
        return Verdict("note", value, LARGE, len(evidence), f"eps is large: noise of its size {what} {value:.1%}")
    return Verdict("pass", value, LARGE, len(evidence))
