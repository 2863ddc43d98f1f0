"""A method's settings can be read without torch, and are those of its module."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from robust_cluster import discover
from robust_cluster.errors import UnknownNameError
from robust_cluster.stages import declared, settings
from robust_cluster.stages.declared import Declared, settings_of
from robust_cluster.stages.profiles import PROFILES

KINDS: tuple[discover.Kind, ...] = ("models", "attacks", "defenses")
SCRIPT = f"""
import json, sys
from robust_cluster import discover
from robust_cluster.stages import settings
from robust_cluster.stages.declared import settings_of
found = {{}}
for kind in {KINDS!r}:
    for name in discover.names(kind):
        method = settings_of(kind, name)
        modes = getattr(method, "MODES", {{}})
        for profile in {PROFILES!r}:
            for mode in (None, *modes):
                asked = {{}} if mode is None else {{"mode": mode}}
                resolved = settings.resolve(method, profile, asked, "of")
                found[f"{{kind}} {{name}} {{profile}} {{mode}}"] = settings.plain(resolved)
        assert "torch" not in sys.modules, name
print(json.dumps(found))
"""


def test_every_method_has_without_torch_the_settings_of_its_module_in_every_mode_and_profile() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    modules = {(kind, name): discover.load(kind, name) for kind in KINDS for name in discover.names(kind)}
    expected = {
        f"{kind} {name} {profile} {mode}": settings.plain(settings.resolve(module, profile, asked, "of"))
        for (kind, name), module in modules.items()
        for mode in (None, *getattr(module, "MODES", {}))
        for profile, asked in product(PROFILES, [{} if mode is None else {"mode": mode}])
    }
    assert found == expected


def test_where_torch_is_loaded_the_module_itself_is_taken() -> None:
    assert settings_of("models", "graph") is discover.load("models", "graph")


def test_an_unknown_method_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown model 'grahp'. Did you mean 'graph'?"):
        settings_of("models", "grahp")


def test_what_is_made_with_torch_cannot_be_had_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from torch import relu\nACTIVATION = relu\nWIDTH = 2 * HALF\nHALF = 3\nHALF = HALF + 1\n"
    (tmp_path / "own.py").write_text(source)
    monkeypatch.setattr(declared, "PACKAGE", tmp_path / "robust_cluster")
    module = Declared("own")
    assert module.WIDTH == 8, "what a statement uses is run before it, however often it gets a value"
    with pytest.raises(ImportError, match="relu of own is torch's"):
        module.ACTIVATION  # noqa: B018
    with pytest.raises(AttributeError, match="own has no HEIGHT"):
        module.HEIGHT  # noqa: B018
