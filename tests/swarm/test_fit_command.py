"""What `swarm fit` says of well-known models, and of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from swarm import cli
from swarm.cli._fit import known
from swarm.cli._fit.sizes import sizes
from swarm.cli._fit.table import FitTable
from swarm.errors import ConfigError
from swarm.forms import Form
from swarm.peer.capacity import Holding

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "hardware.md"


def fit(*arguments: str):
    return CliRunner().invoke(cli.build(), ["fit", *arguments])


def test_the_page_is_what_the_command_prints():
    table = FitTable.compute()
    assert table.markdown() == PAGE.read_text(), (
        "run `swarm fit --table --markdown > docs/hardware.md`"
    )
    models = table.as_json()["models"]
    assert len(models) == len(known.models())
    dense = models[0]["forms"]
    assert dense["none"]["block"] > dense["int8"]["block"] > dense["int4"]["block"]


@pytest.mark.parametrize("model", known.models(), ids=lambda model: model.name)
def test_dimensions_give_the_published_number_of_parameters(model):
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(model.transformers_config())
    total = sum(parameter.numel() for parameter in built.parameters())
    assert total / 1e9 == pytest.approx(model.parameters, rel=0.01)


def test_models_are_found_by_name_or_repository():
    by_name, by_repository = known.find("llama 3.1 8b"), known.find("META-LLAMA/Llama-3.1-8B")
    assert by_name is by_repository is not None
    assert known.find("somebody/else") is None


def test_sizes_follow_the_machine():
    model = known.find("Llama 3.1 8B")
    assert model is not None
    found = sizes(model.transformers_config(), torch.bfloat16)
    assert found.num_blocks == 32
    # Twice 32 blocks of 8 heads with 128 numbers each, in two bytes.
    assert found.position_bytes == 2 * 32 * 8 * 128 * 2
    assert found.ends == (2 * 128256 * 4096 + 4096) * 2
    assert found.holding(Form.NONE, 100 * 10**6) == Holding(0, 0)
    assert found.holding(Form.NONE, 10**12).blocks == 32


def test_this_machine(model_file):
    result = fit("--model", str(model_file), "--json", "--dtype", "bfloat16", "--device", "cpu")
    told = json.loads(result.stdout)
    forms = {each["quantize"]: each for each in told["forms"]}
    assert list(forms) == ["none", "int8", "int4", "file"]
    assert forms["file"]["block"] < forms["int8"]["block"] < forms["none"]["block"]
    assert told["free"] > 0 and told["num_blocks"] == 30


def test_a_machine_that_is_thought_of():
    result = fit("--model", "qwen3 8b", "--free", "12GB", "--dtype", "bfloat16")
    assert "36 blocks" in result.stdout and "12.0 GB" in result.stdout
    (plain,) = [line.split() for line in result.stdout.splitlines() if line.startswith("none")]
    assert plain[3:5] == ["21", "2"]


def test_nothing_fits_is_said():
    assert "Not one block fits" in fit("--model", "qwen3 8b", "--free", "100MB").stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["--table", "--model", "x"], ["--model", "x", "--markdown"]],
)
def test_arguments_that_say_nothing(arguments):
    assert fit(*arguments).exit_code == 2


def test_a_model_that_is_nowhere():
    with pytest.raises(ConfigError):
        raise fit("--model", "./not-here").exception  # type: ignore[misc]
