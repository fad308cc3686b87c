"""Who of three is wrong, by who agrees with whom. Policy only."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a comparison has shown."""

    AGREED = "agreed"
    SUSPECT = "suspect"
    WITNESS = "witness"
    UNDECIDED = "undecided"


def verdict(*, suspect_third: bool | None, witness_third: bool | None) -> Verdict:
    """Who is wrong when suspect and witness differ; each says whether it agrees with the third.

    None where there is no third, or where it came to nothing. One who stands alone against two that
    agree is wrong; anything else blames nobody.
    """
    match suspect_third, witness_third:
        case False, True:
            return Verdict.SUSPECT
        case True, False:
            return Verdict.WITNESS
        case _:
            return Verdict.UNDECIDED
