from __future__ import annotations

from pathlib import Path

import pytest

from swarm.bootstrap.config import DAY, BootstrapConfig, Terms
from swarm.errors import ConfigError
from swarm.membership.certificate import Role


@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime": 60},
        {"lifetime": 400 * DAY},
        {"validity": 0},
        {"validity": 400 * DAY},
        {"uses": 0},
        {"uses": 1001},
    ],
)
def test_terms_that_cannot_be(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Terms(**changes)  # type: ignore[arg-type]


def test_who_joins_a_group_does_not_name_it(authority) -> None:
    invite = authority.invite(Role.AUTHORITY)
    BootstrapConfig(Path("folder"), join=invite)
    with pytest.raises(ConfigError, match="has founded it"):
        BootstrapConfig(Path("folder"), join=invite, name="mine")
    with pytest.raises(ConfigError, match="role authority"):
        BootstrapConfig(Path("folder"), join=authority.invite(Role.ADMIN))
