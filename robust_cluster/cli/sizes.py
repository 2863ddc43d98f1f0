"""Whether the networks and the embedding of a plan fit into memory, asked before anything is allocated."""

from typing import TYPE_CHECKING, Any

from robust_cluster.errors import ConfigError, shortage

if TYPE_CHECKING:
    from robust_cluster.stages.chain import Plan

FLOAT = 4  # bytes
TRAINED = 4  # floats a parameter takes: itself, its gradient and the two moments of Adam
HINT = "smaller widths, --dim or --limit"


def check(plan: "Plan", device: str) -> None:
    """Refuse a model, an attacker or an embedding that no memory holds, e.g. --dim 1000000000. Raises: ConfigError.

    The networks are made without memory, on torch's device "meta"; what cannot be made there is counted up to then.
    """
    import torch  # late: help needs none of it
    from torch.nn.modules.module import register_module_parameter_registration_hook

    from robust_cluster.attacks.base import Surface
    from robust_cluster.models.adopted import Adopted
    from robust_cluster.models.shallow.base import Shallow
    from robust_cluster.stages import methods

    request, model, n_samples = plan.request, plan.model, plan.info.n_samples
    if issubclass(model.cls, Adopted):  # it is there already, and its weights cannot be loaded without memory
        return
    if not issubclass(model.cls, Shallow):
        fits(f"the embedding of {n_samples} samples in {request.latent_dim} dimensions", n_samples * request.latent_dim)
    floats = 1 if device != "cpu" and torch.cuda.is_available() else TRAINED  # they are made here, and trained there
    counted, what = 0, model.name

    def count(module: torch.nn.Module, name: str, parameter: Any) -> None:
        nonlocal counted
        counted += 0 if parameter is None else parameter.numel()
        fits(f"{what} with its {counted} or more parameters", floats * counted)

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            network = methods.new_model(model.name, model.settings, plan.info, request.latent_dim)
            for spec in plan.runs:
                if spec.attack:
                    counted, what = 0, spec.attack
                    space = methods.attack_space(what, spec.settings["attack"])
                    methods.new_attack(what, spec.settings["attack"], Surface(network, space, None))
    except (RuntimeError, TypeError, OverflowError) as error:
        if "overflow" in str(error).lower() or "too big" in str(error):
            raise ConfigError(f"{what} has more parameters than can be counted", hint=HINT) from error
    finally:
        hook.remove()


def fits(what: str, floats: int) -> None:
    """Raises ConfigError when so many floats are more than the memory that there is."""
    from robust_cluster.data.formats.memory import available

    there = available()
    if there is not None and floats * FLOAT > there:
        raise ConfigError(shortage(what, floats * FLOAT, there), hint=HINT)
