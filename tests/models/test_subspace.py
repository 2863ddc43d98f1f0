"""SSC-OMP and EnSC: coefficients by plain loops and their conditions, subspaces that do not mix, the graphs of both."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import orthogonal_mp

from robust_cluster.data.base import DataInfo
from robust_cluster.metrics.ari import ari
from robust_cluster.models.base import Embedding
from robust_cluster.models.subspace import ensc, ssc_omp
from robust_cluster.models.subspace.base import Subspace, unit_rows
from robust_cluster.models.subspace.ensc import EnSC
from robust_cluster.models.subspace.ssc_omp import SSCOMP

Make = Callable[[DataInfo], Subspace]
MODELS: dict[str, Make] = {
    "ssc_omp": lambda info: SSCOMP(ssc_omp.Config(sparsity=3), info, 0),
    "ensc": lambda info: EnSC(ensc.Config(atoms=10), info, 0),
}


def planes(n: int = 40) -> torch.Tensor:
    """2n unit vectors of six values: n in the span of the first three, n in that of the last three."""
    torch.manual_seed(0)
    x = torch.zeros(2 * n, 6)
    x[:n, :3], x[n:, 3:] = torch.randn(n, 3), torch.randn(n, 3)
    return F.normalize(x)


def info(x: torch.Tensor, n_clusters: int = 2) -> DataInfo:
    return DataInfo("planes", (tuple(x.shape[1:]),), len(x), n_clusters, None, 1.0, "")


@pytest.mark.parametrize("name", MODELS)
def test_no_sample_is_written_in_itself_or_in_another_subspaces(name: str) -> None:
    x = planes()
    found = MODELS[name](info(x)).coefficients(x).toarray()
    assert (found.diagonal() == 0).all()
    assert (found[:40, 40:] == 0).all()
    assert (found[40:, :40] == 0).all()
    assert (np.count_nonzero(found, axis=1) > 0).all()
    assert np.linalg.norm(found @ x.numpy() - x.numpy(), axis=1).max() < 0.3


@pytest.mark.parametrize("name", MODELS)
def test_two_orthogonal_subspaces_are_the_clusters(name: str) -> None:
    x = planes()
    model = MODELS[name](info(x))
    model.start("cluster", lambda: Embedding(3 * x, (x,)), seed=0)  # rows of any length: they are made unit
    assert model.fit.labels is not None
    assert ari(np.repeat([0, 1], 40), model.fit.labels.numpy()) == 1
    assert model.health(Embedding(x, (x,))) == {"graph_parts": 2, "alone": 0}


@pytest.mark.parametrize("name", MODELS)
def test_a_row_of_zeros_and_one_that_nothing_writes_are_alone(name: str) -> None:
    x = F.pad(planes(), (0, 1))
    x[0], x[1] = 0, F.one_hot(torch.tensor(6), 7)
    model = MODELS[name](info(x))
    coefficients = model.coefficients(x).toarray()
    assert (coefficients[:2] == 0).all()
    assert (coefficients[:, :2] == 0).all()
    model.start("cluster", lambda: Embedding(x, (x,)), seed=0)
    assert model.health(Embedding(x, (x,)))["alone"] == pytest.approx(2 / 80)


def plain_omp(x: np.ndarray, row: int, sparsity: int, tolerance: float) -> np.ndarray:  # type: ignore[type-arg]
    """Orthogonal matching pursuit of one row in the others, a line for a line of the paper's Algorithm 1."""
    chosen: list[int] = []
    residual, values = x[row], np.zeros(0)
    while len(chosen) < sparsity and residual @ residual >= tolerance:
        fit = np.abs(x @ residual)
        fit[[row, *chosen]] = -1
        chosen.append(int(fit.argmax()))
        values = np.linalg.lstsq(x[chosen].T, x[row], rcond=None)[0]
        residual = x[row] - values @ x[chosen]
    found = np.zeros(len(x))
    found[chosen] = values
    return found


def test_the_pursuit_is_the_plain_loops_and_sklearns() -> None:
    torch.manual_seed(1)
    x = F.normalize(torch.randn(50, 12))
    columns, values = ssc_omp.pursue(x, torch.arange(20), 5, tolerance=1e-6)
    for row in range(20):
        found = np.zeros(50)
        found[columns[row].numpy()] = values[row].numpy()
        np.testing.assert_allclose(found, plain_omp(x.double().numpy(), row, 5, 1e-6), atol=1e-4)
        others = np.delete(x.double().numpy(), row, axis=0)
        np.testing.assert_allclose(
            np.delete(found, row), orthogonal_mp(others.T, x[row].double().numpy(), n_nonzero_coefs=5), atol=1e-4
        )


def test_the_pursuit_ends_when_the_residual_is_small() -> None:
    """The first row is a multiple of the second: one coefficient; the fourth is the sum of two: two."""
    x = F.normalize(torch.tensor([[2.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0.1, 1]]))
    _, values = ssc_omp.pursue(x, torch.arange(5), 4, tolerance=1e-6)
    assert (values != 0).sum(dim=1).tolist()[:2] == [1, 1]
    assert (values[3] != 0).sum() == 2
    torch.testing.assert_close(values[3, :2], torch.full((2,), 0.5, dtype=torch.float64).sqrt())


def test_blocks_of_rows_give_what_all_rows_give(monkeypatch: pytest.MonkeyPatch) -> None:
    x = planes()
    for name, module in (("ssc_omp", ssc_omp), ("ensc", ensc)):
        whole = MODELS[name](info(x)).coefficients(x).toarray()
        monkeypatch.setattr(module, "BLOCK", 7)
        np.testing.assert_allclose(MODELS[name](info(x)).coefficients(x).toarray(), whole, atol=1e-5)


@pytest.mark.parametrize("tau", [0.6, 1.0])
def test_the_net_over_all_samples_meets_its_conditions_though_its_atoms_are_few(tau: float) -> None:
    """|<delta, x_j>| = tau, with (1 - tau) c_j on top, where c_j is not 0, and at most tau everywhere else."""
    torch.manual_seed(2)
    x = F.normalize(torch.randn(60, 15) + 0.5)
    config = ensc.Config(tau=tau, gamma=20, atoms=4)
    for row, (columns, values) in enumerate(ensc.active_sets(x, torch.arange(30), config)):
        data = x.double()
        others = torch.arange(60) != row
        alpha = config.gamma * tau / (data @ data[row])[others].abs().max()
        slope = alpha * data @ (data[row] - values @ data[columns])
        assert len(columns) > 4
        assert row not in columns
        torch.testing.assert_close(slope[columns], tau * values.sign() + (1 - tau) * values, rtol=1e-4, atol=1e-4)
        assert (slope[others].abs() <= tau + (1 - tau) * values.abs().max() + 1e-3).all()
        unused = others.clone()
        unused[columns] = False
        assert (slope[unused].abs() <= tau * 1.001).all()


def test_where_gamma_is_1_every_coefficient_is_0_but_for_rounding() -> None:
    x = F.normalize(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    found = ensc.active_sets(x, torch.arange(20), ensc.Config(gamma=1))
    assert max(float(values.abs().sum()) for _, values in found) < 1e-6


def test_only_the_largest_coefficients_stay() -> None:
    columns, values = ensc.largest(torch.tensor([4, 7, 9]), torch.tensor([0.1, -3.0, 0.5]), 2)
    assert (columns.tolist(), values.tolist()) == ([7, 9], [-3.0, 0.5])
    x = planes()
    config = ensc.Config(atoms=10, kept=1)
    assert (np.diff(EnSC(config, info(x), 0).coefficients(x).indptr) == 1).all()


def test_the_graphs_are_symmetric_and_of_unit_rows() -> None:
    import scipy.sparse

    rows = unit_rows(scipy.sparse.csr_array(np.array([[0, 3.0, 4.0], [0, 0, 0], [1.0, 0, 0]])))
    np.testing.assert_allclose(rows.toarray(), [[0, 0.6, 0.8], [0, 0, 0], [1, 0, 0]])
    x = planes()
    symmetric, nearest = (EnSC(ensc.Config(graph=graph), info(x), 0) for graph in ("symmetric", "neighbors"))
    np.testing.assert_allclose(symmetric.weights(rows).toarray(), [[0, 0.3, 0.9], [0.3, 0, 0], [0.9, 0, 0]])
    joined = nearest.weights(rows).toarray()  # of three rows two neighbors are all there are
    np.testing.assert_allclose(joined, 1 - np.eye(3))
