from __future__ import annotations

import pytest

from swarm.amounts import gigabytes, megabytes, shortly


def test_units_are_those_of_disks() -> None:
    assert gigabytes(5_240_000_000) == "5.2 GB"
    assert megabytes(1_340_400_000) == "1,340 MB"


@pytest.mark.parametrize(
    ("size", "told"), [(0, "0 MB"), (340_000_000, "340 MB"), (1_000_000_000, "1.0 GB")]
)
def test_the_unit_follows_the_size(size: int, told: str) -> None:
    assert shortly(size) == told
