"""Which model a peer takes that was told none, and rates as people write them."""

from __future__ import annotations

import pytest
import typer

from swarm.cli import _options
from swarm.cli._needed import look, most_needed
from swarm.directory import Announcement, State
from swarm.directory.memory import MemoryDirectory, Registry
from swarm.errors import ConfigError

pytestmark = pytest.mark.simulated_time


def entry(peer, name, start, end, state=State.SERVING):
    return Announcement(peer, peer, f"f-{name}", name, 8, start, end, state)


def test_a_gap_comes_first_then_what_fewest_serve():
    whole = [entry("a", "org/whole", 0, 8), entry("b", "org/whole", 0, 8)]
    thin = entry("c", "org/thin", 0, 8)
    broken = entry("d", "org/broken", 0, 5)
    found = most_needed([*whole, thin, broken])
    assert found is not None and found.model == "org/broken" and "3 of its blocks" in found.why
    found = most_needed([*whole, thin])
    assert found is not None and found.model == "org/thin" and "1 peer only" in found.why
    assert found.fingerprint == "f-org/thin"


@pytest.mark.parametrize("name", ["model.gguf", "/etc/passwd", "../up", "a/b/c", "-x"])
def test_nobody_has_us_open_a_path(name):
    assert most_needed([entry("a", name, 0, 8)]) is None


def test_who_does_not_serve_does_not_count():
    assert most_needed([entry("a", "org/m", 0, 8, State.PAUSED)]) is None


async def test_a_group_that_serves_nothing_to_download_says_so():
    directory = MemoryDirectory(Registry(), "a")
    await directory.announce(entry("a", "mine.gguf", 0, 8), 1000.0)
    with pytest.raises(ConfigError, match=r"mine\.gguf.*--model"):
        await look(directory)
    await directory.announce(entry("a", "org/m", 0, 8), 1000.0)
    assert (await look(directory)).model == "org/m"


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20Mbit", 2.5e6), ("20 Mbit/s", 2.5e6), ("2MB/s", 2e6), ("512kbit", 64e3), (None, 0.0)],
)
async def test_rates_are_read(text, rate):
    assert _options.rate(text) == rate


@pytest.mark.parametrize("text", ["fast", "20Mbps", "-1MB", "100kbit", "0", "bit"])
async def test_what_is_no_rate_is_told(text):
    with pytest.raises(typer.BadParameter, match="20Mbit"):
        _options.rate(text)
