"""One reply's way through its grammar: what may come next, and what must."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from swarm.errors import RequestError

from .complaint import reason

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from .vocabulary import Vocabulary


class Matcher:
    """Stands behind the tokens that have come; used by one reply alone.

    The tokens that end a reply are allowed just where the grammar may end. Raises `RequestError`
    where no text at all is allowed.
    """

    def __init__(self, followed: LLMatcher, vocabulary: Vocabulary) -> None:
        self._followed = followed
        self._vocabulary = vocabulary
        self.finished = False
        """Whether the text is whole and nothing but an end could follow."""
        self._barred: torch.Tensor
        self._look()

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` `[size]`, with minus infinity for all that may not come."""
        return torch.where(self._barred, -torch.inf, logits)

    def advance(self, token: int) -> None:
        """This token has come; it is one of those that may.

        Raises `RequestError` where the grammar turns out to be too large to be followed.
        """
        assert not self.finished
        if not self._followed.consume_token(token):
            raise RequestError(f"token {token} leaves the grammar, {self._trouble()}")
        if token not in self._vocabulary.ends:
            self._look()

    def forced(self) -> list[int]:
        """The tokens that alone may come next, one after the other; perhaps none."""
        return [] if self.finished else list(self._followed.compute_ff_tokens())

    def _look(self) -> None:
        vocabulary = self._vocabulary
        bits = np.frombuffer(self._followed.compute_bitmask(), np.uint8)
        if self._followed.is_error():
            raise RequestError(f"the grammar cannot be followed: {self._trouble()}")
        # In numpy: of a vocabulary's size, each of torch's small steps takes five times as long.
        barred = np.unpackbits(~bits, count=vocabulary.size, bitorder="little").view(np.bool_)
        if vocabulary.barred is not None:
            barred[vocabulary.barred :] = True
        number = vocabulary.size - np.count_nonzero(barred)
        self.finished = number == sum(not barred[end] for end in vocabulary.ends)
        if self.finished and not self._followed.is_accepting():
            raise RequestError("no token leads on in the grammar")
        self._barred = torch.from_numpy(barred)

    def _trouble(self) -> str:
        error = reason(self._followed)
        return "there is no text that it allows" if "NoExtension" in error else error
