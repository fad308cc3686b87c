"""Tokenizers that are made once: the same ones come back, and nothing else does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swarm.checkpoint.kept_tokenizer import KeptTokenizer

FINGERPRINT = "f" * 32
WORDS = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4}
TALK = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


class Maker:
    """Makes a tokenizer, and counts how often."""

    def __init__(self, **options: Any) -> None:
        self.num_made = 0
        self._options = options

    def __call__(self) -> PreTrainedTokenizerFast:
        self.num_made += 1
        words = Tokenizer(models.WordLevel(WORDS, unk_token="<s>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        return PreTrainedTokenizerFast(
            tokenizer_object=words,
            bos_token="<s>",
            eos_token="</s>",
            chat_template=TALK,
            **self._options,
        )


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], KeptTokenizer]:
    """What one more program finds in the cache."""
    return lambda: KeptTokenizer(tmp_path / "tokenizers", FINGERPRINT, "model.gguf")


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "tokenizers").iterdir())


def test_it_is_made_once(kept: Callable[[], KeptTokenizer], tmp_path: Path) -> None:
    make = Maker()
    first, second = kept().load(make), kept().load(make)
    assert make.num_made == 1
    assert first.encode("b c a") == second.encode("b c a") == [3, 4, 2]
    assert second.eos_token_id == 1 and second.name_or_path == "model.gguf"
    talk = [{"role": "user", "content": "a b"}]
    assert second.apply_chat_template(talk, tokenize=False) == "a b"
    assert len(folders(tmp_path)) == 1


def test_a_damaged_one_is_made_again(kept: Callable[[], KeptTokenizer], tmp_path: Path) -> None:
    make = Maker()
    kept().load(make)
    (file,) = (tmp_path / "tokenizers").glob("*/tokenizer.json")
    file.write_text(file.read_text()[:100])
    assert kept().load(make).encode("c") == [4] and make.num_made == 2
    kept().load(make)
    assert make.num_made == 2


def test_one_that_changes_when_saved_is_not_kept(
    kept: Callable[[], KeptTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    save = PreTrainedTokenizerFast.save_pretrained

    def lossy(self: PreTrainedTokenizerFast, folder: Path) -> None:
        self.add_tokens(["d"])
        save(self, folder)
        self.backend_tokenizer.add_tokens(["e"])

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", lossy)
    kept().load(make)
    kept().load(make)
    assert make.num_made == 2


def test_other_versions_make_their_own(
    kept: Callable[[], KeptTokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    kept().load(make)
    shutil.copytree(
        tmp_path / "tokenizers" / folders(tmp_path)[0], tmp_path / "tokenizers" / "other-1-1"
    )
    monkeypatch.setattr("tokenizers.__version__", "999")
    kept().load(make)
    assert make.num_made == 2
    # What no program here reads any more is not left lying; other models' is.
    assert len(folders(tmp_path)) == 2 and "other-1-1" in folders(tmp_path)


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "tokenizers").write_text("in the way")
    make = Maker()
    kept = KeptTokenizer(tmp_path / "tokenizers", FINGERPRINT, "model.gguf")
    assert kept.load(make).encode("a") == [2]
