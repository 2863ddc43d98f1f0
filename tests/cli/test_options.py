"""What the command line understands as a value."""

import pytest

from robust_cluster.cli.options import numbers, value
from robust_cluster.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/255", 8 / 255),
        ("0.25", 0.25),
        ("1e-3", 1e-3),
        ("3", 3),
        ("[1, 2]", [1, 2]),
        ("none", "none"),
        ("[apgd:margin, square]", ["apgd:margin", "square"]),
        ("[apgd:kl, ./mine.py]", ["apgd:kl", "./mine.py"]),
        ("[a, 8/255]", ["a", 8 / 255]),
    ],
)
def test_a_setting_may_be_a_fraction_as_papers_write_radii(text: str, expected: object) -> None:
    assert value(text) == expected


def test_radii_may_be_fractions() -> None:
    assert numbers("2/255, 8/255,0.1", "--eps") == [2 / 255, 8 / 255, 0.1]


@pytest.mark.parametrize("text", ["8/0", "8/", "/255", "-8/255", "nan", "inf", "0.1,0.1", ""])
def test_what_is_no_radius_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--eps takes distinct numbers >= 0"):
        numbers(text, "--eps")
