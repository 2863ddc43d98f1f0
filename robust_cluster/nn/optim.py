"""Adam without what its import costs, and the one descent step that models, attacks and defenses share."""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer


class Stateful(Protocol):
    """Anything with a state to save: modules and optimizers."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class PlainAdam(Adam):
    """Adam whose steps do not first import PyTorch's compiler, which takes over a second and which nothing here uses.

    The numbers are Adam's: `step` is its own function without the wrapper that tells the compiler to keep out.
    """

    step = torch.no_grad()(inspect.unwrap(Adam.step))


for _method in (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict):
    # The same for what every optimizer does: the compiler would be imported to be told to keep out.
    _plain = inspect.unwrap(_method)
    if _plain is not _method and not hasattr(_plain, "__dynamo_disable"):
        setattr(_plain, "__dynamo_disable", _plain)  # in a class the name would be mangled


def adam(parameters: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Adam:
    """Adam with eps 1e-8, in its fused form where the device has one (CPU, CUDA, MPS)."""
    return PlainAdam(parameters, lr=lr, betas=betas, fused=True)


def descend(
    terms: Mapping[str, Tensor], optimizer: Optimizer, *, max_norm: float | None = None, is_alone: bool = False
) -> dict[str, float]:
    """One step down the sum of `terms`; returns their values, one transfer from the device for all.

    `max_norm`: the gradient's global L2 norm is cut to it first. `is_alone`: no parameter of another collects a
    gradient.
    """
    optimizer.zero_grad(set_to_none=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.stack(list(terms.values())).sum().backward(inputs=parameters if is_alone else None)
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()
    values = torch.stack([term.detach() for term in terms.values()]).tolist()
    return dict(zip(terms, values, strict=True))
