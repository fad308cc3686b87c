"""What `swarm bootstrap` is told of its page."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from swarm import cli
from swarm.bootstrap.config import PAGE_PORT
from swarm.cli.bootstrap import _page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ("127.0.0.1", PAGE_PORT, False)),
        ("7781", ("127.0.0.1", 7781, True)),
        ("0.0.0.0:80", ("0.0.0.0", 80, True)),
        ("[::1]:7780", ("::1", 7780, True)),
        ("home.example:0", ("home.example", 0, True)),
    ],
)
def test_where_the_page_is_shown_is_read(text, expected):
    config = _page(text, None, None)
    assert (config.host, config.port, config.asked) == expected


@pytest.mark.parametrize("text", ["", "here", "127.0.0.1:", "127.0.0.1:70000", "7780:127.0.0.1"])
def test_other_places_are_told(text):
    with pytest.raises(typer.BadParameter, match=r"\[HOST:\]PORT"):
        _page(text, None, None)


def test_no_page_has_no_address(tmp_path):
    arguments = ["bootstrap", "--dir", str(tmp_path / "new"), "--no-page", "--page", "7781"]
    done = CliRunner().invoke(cli.build(), arguments)
    assert done.exit_code == 2 and not (tmp_path / "new").exists()
