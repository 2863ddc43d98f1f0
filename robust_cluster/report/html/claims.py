"""The papers' claims as a report shows them: what our runs say of each, and with what interval."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_cluster.errors import RobustClusterError
from robust_cluster.report.answers import Record
from robust_cluster.report.formats import number
from robust_cluster.report.spec import CLAIMS, tables_folder

if TYPE_CHECKING:
    from robust_cluster.report.claims import Claim, Ruling


@dataclass(frozen=True)
class Ruled:
    """A ruling on a claim under a profile, as a row of `report.claims.rows`; `table`: that of its first side."""

    profile: str
    table: str
    row: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """The number that it compares."""
        return str(self.row["compares"]).partition(":")[0]

    @property
    def effect(self) -> str:
        """Its effect with a sign, "" without one."""
        effect = self.row["effect"]
        return "" if effect is None else number(effect, "+.3g")

    @property
    def interval(self) -> str:
        """Its interval in brackets, "" without one."""
        if self.row["p"] is None:
            return ""
        ends = [self.row[end] for end in ("low", "high")]
        low, high = ("∞" if end is None else number(end, ".3g") for end in ends)
        return f"[{low.replace('∞', '−∞')}, {high}]"


def rulings(
    records: Sequence[Record], profiles: Sequence[str], tables: Collection[tuple[str, str]], folder: Path | None
) -> Iterator[Ruled]:
    """The claims that are of these tables alone, ruled on under each profile; `tables`: pairs of name and profile.

    One without a run is there too, with n = 0. One for which two runs compete is not: its table says so.
    """
    from robust_cluster.report.claims import judge, load_claims, rows  # late: SciPy takes a second to load

    if not ((folder or tables_folder()) / f"{CLAIMS}.toml").exists():
        return
    for profile in profiles:
        asked = [one for one in load_claims(folder) if all((side.table, profile) in tables for side in one.sides)]
        try:
            found = judge(asked, records, profile, folder=folder) if asked else []
        except RobustClusterError:  # two runs compete for a place of some claim: the others can be judged
            found = [ruling for one in asked for ruling in judged(one, records, profile, folder)]
        for one, row in zip(found, rows(found), strict=True):
            yield Ruled(profile, one.claim.sides[0].table, row)


def judged(claim: "Claim", records: Sequence[Record], profile: str, folder: Path | None) -> "list[Ruling]":
    """The rulings on one claim; none where two runs compete for one of its places."""
    from robust_cluster.report.claims import judge

    try:
        return judge([claim], records, profile, folder=folder)
    except RobustClusterError:
        return []
