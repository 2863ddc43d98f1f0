"""Where a run was made: what a reader needs to compare its numbers and times. No host or user names."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import robust_cluster
from robust_cluster.discover import PACKAGE

LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "scipy")


def describe(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """Plain JSON: python, platform, cpu, cores, threads, device, accelerator, versions, commit and dirty.

    `threads` None: as many as torch uses now. `accelerator`: the GPU's name, None on a CPU. `commit` and `dirty` are
    None outside a checkout; `dirty` looks at the package folder only, for results and tables do not change numbers.
    """
    import torch

    commit, dirty = _checkout()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if threads is None else threads,
        "device": device,
        "accelerator": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "versions": {"robust_cluster": robust_cluster.__version__} | {name: _version(name) for name in LIBRARIES},
        "commit": commit,
        "dirty": dirty,
    }


def matmul_error(device: str = "cpu") -> float:
    """Relative error (Frobenius norm, against float64) of a layer's 256 x 256 float32 product as it is computed now.

    About 4e-7 when products are float32 and 2e-3 when they are bfloat16: it shows what the precision "medium" meant on
    this machine. Two fixed Gaussian matrices; torch's global generator is not touched.
    """
    import torch
    import torch.nn.functional as F

    left, right = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
    exact = left.double() @ right.double()
    product = F.linear(left.to(device), right.to(device).T).cpu().double()
    return float((product - exact).norm() / exact.norm())


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether the device multiplies bfloat16 itself, as a CPU with avx512_bf16 does; True where that is not told."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = _cpuinfo("flags") or _cpuinfo("Features")  # of x86, of ARM
    return not device.startswith("cpu") or not flags or any(flag.endswith("bf16") for flag in flags[0].split())


def _version(distribution: str) -> str | None:
    """The installed version, None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache
def _cpu_model() -> str:
    """The processor's name as Linux gives it, elsewhere what Python knows, at least the architecture."""
    return next(iter(_cpuinfo("model name")), "") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> list[str]:
    """A field of Linux's description of the processors, one entry a core; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(field)]


@cache
def _checkout() -> tuple[str | None, bool | None]:
    """Commit of the checkout that the package lies in and whether the package differs from it; once per process."""
    try:
        folder, commit = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        # A package installed below somebody else's checkout must not report their commit.
        if Path(folder).resolve() != PACKAGE.resolve().parent:
            return None, None
        return commit, bool(_git("status", "--porcelain", "--", "."))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None, None


def _git(*arguments: str) -> str:
    """What git prints for the package folder. Raises: OSError without git, SubprocessError when it fails or is slow."""
    command = ["git", "--no-optional-locks", "-C", str(PACKAGE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=2).stdout
