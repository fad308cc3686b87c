"""What every test has."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_hidden_failures(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A task's root logs what it must not raise; a test in which that happened has failed.

    A test that provokes such a failure on purpose clears `caplog`.
    """
    yield
    errors = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.ERROR and record.name.startswith("swarm")
    ]
    assert not errors, errors
