"""Tokenizers out of GGUF files, kept in the form in which transformers reads them quickly.

From the file itself transformers makes an array object per token, each time: seconds for a small
vocabulary, and many for a large one.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import ConfigError

from .model_config import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class KeptTokenizer:
    """The tokenizer of one model, in a folder below `memory`.

    It belongs to the model's fingerprint and to the versions of the packages that made it: others
    may make another one of the same file.
    """

    def __init__(self, memory: Path, fingerprint: str, name: str) -> None:
        import tokenizers
        import transformers

        versions = f"{transformers.__version__}-{tokenizers.__version__}"
        self._memory, self._fingerprint, self._name = memory, fingerprint, name
        self._folder = memory / f"{fingerprint}-{versions}"

    def load(self, make: Callable[[], PreTrainedTokenizerBase]) -> PreTrainedTokenizerBase:
        """The kept one, or else what `make` returns, which is then kept.

        It is only kept if what will be read next time does the same.
        """
        if self._folder.is_dir():
            try:
                return self._read(self._folder)
            except ConfigError as error:  # half of it is gone: made again
                log.warning("tokenizer unreadable folder=%s why=%s", self._folder, error)
                shutil.rmtree(self._folder, ignore_errors=True)
        tokenizer = make()
        try:
            self._keep(tokenizer)
        except (OSError, ConfigError) as error:  # a full cache only costs making it again
            log.info("tokenizer not kept folder=%s why=%s", self._folder, error)
        return tokenizer

    def _read(self, folder: Path) -> PreTrainedTokenizerBase:
        tokenizer = load_tokenizer(folder, self._name)
        tokenizer.name_or_path = self._name
        return tokenizer

    def _keep(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._memory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._memory, prefix=".new-") as parent:
            fresh = Path(parent) / "tokenizer"
            tokenizer.save_pretrained(fresh)
            if not _alike(tokenizer, self._read(fresh)):
                log.info("tokenizer not kept name=%s why=it changes when saved", self._name)
                return
            for old in self._memory.glob(f"{self._fingerprint}-*"):
                if old != self._folder:
                    shutil.rmtree(old, ignore_errors=True)
            # This fails where another program was quicker, which has put the same there.
            os.replace(fresh, self._folder)


def _alike(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers do the same: all that the fast one computes from is in its state."""

    def state(tokenizer: PreTrainedTokenizerBase) -> tuple[object, ...]:
        return (
            type(tokenizer),
            tokenizer.backend_tokenizer.to_str(),
            tokenizer.chat_template,
            tokenizer.special_tokens_map,
            tokenizer.all_special_ids,
            tokenizer.clean_up_tokenization_spaces,
        )

    return one.is_fast and other.is_fast and state(one) == state(other)
