"""Options that commands share as the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from swarm.cli._asking import Asking, Choosing
from swarm.cli._parameters import spread


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1, help="Across.")] = 3
    tall: Annotated[bool, typer.Option("--tall")] = False


def draw(
    first: Annotated[str, typer.Argument()],
    times: Annotated[int, typer.Option()] = 1,
    *,
    size: Size,
    last: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Draws."""
    typer.echo(f"{first} {times} {size} {last}")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(spread(draw))
    return app


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a"], f"a 1 {Size()} None"),
        (["a", "--width", "7", "--times", "2"], f"a 2 {Size(7)} None"),
        (["--tall", "a", "--last", "z"], f"a 1 {Size(tall=True)} z"),
    ],
)
def test_fields_are_options(app: typer.Typer, arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout.strip()) == (0, told)


def test_fields_are_checked_as_options_are(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["a", "--width", "0"])
    assert result.exit_code == 2
    assert "--width" in result.stderr


def test_options_stand_where_the_dataclass_does(app: typer.Typer) -> None:
    parameters = typer.main.get_command(app).params
    assert [each.name for each in parameters] == ["first", "times", "width", "tall", "last"]


def test_options_become_what_the_client_takes() -> None:
    sampling = Choosing(temperature=0.5, top_k=4, seed=7, stop=["x"]).sampling(9)
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_k) == (9, 0.5, 4)
    assert (sampling.seed, sampling.stop) == (7, ("x",))
    options = Asking(dtype="float16", wire="int8", revision="main", draft="o/n").options()
    assert (options.dtype, options.wire) == ("float16", "int8")
    assert (options.revision, options.draft) == ("main", "o/n")
