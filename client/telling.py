"""A reply told piece by piece: each of its tokens once, however often it is begun anew."""

from __future__ import annotations

from .logprobs import Score
from .piece import ChosenToken, Piece
from .reply import Finish, Reply
from .spelling import Spelling
from .text import Passage, TextStream


class Telling:
    """Makes pieces of a reply's tokens as they come; adds their text to the reply.

    What a reply has already, from before an error, is to be pushed again: pieces follow from the
    tokens alone, so of those that were told only the number need be known.
    """

    def __init__(self, reply: Reply, stream: TextStream, spelling: Spelling) -> None:
        self._reply = reply
        self._stream = stream
        self._spelling = spelling
        self._num_seen = 0

    @property
    def finished(self) -> bool:
        """Whether a stop string has come, and ended the reply."""
        return self._stream.finished

    def push(self, token: int) -> Piece | None:
        """What this token makes certain, if anything."""
        return self._told(self._stream.push(token))

    def flush(self) -> Piece | None:
        """What was held back, as nothing follows."""
        return self._told(self._stream.flush())

    def _told(self, passage: Passage) -> Piece | None:
        reply = self._reply
        if self.finished:
            reply.finish, reply.stopped_by = Finish.STOP, self._stream.stopped_by
        num_old = min(max(reply.num_told - self._num_seen, 0), len(passage.tokens))
        fresh, text = passage.tokens[num_old:], passage.text
        if num_old:  # Only with other stop strings than before does a passage begin elsewhere.
            text = b"".join(token.raw for token in fresh).decode(errors="replace")
        first = self._num_seen + num_old
        self._num_seen += len(passage.tokens)
        if not fresh:
            return None
        tokens = tuple(self._chosen(first + i, *each) for i, each in enumerate(fresh))
        piece = Piece(text, tokens)
        reply.tell(piece)
        return piece

    def _chosen(self, index: int, token: int, raw: bytes) -> ChosenToken:
        return chosen(token, raw, self._reply.scores.get(index), self._spelling)


def echo(reply: Reply, stream: TextStream, spelling: Spelling) -> Piece:
    """The prompt of a reply as a piece; `stream` is one without stop strings."""
    passages = [*map(stream.push, reply.prompt_ids), stream.flush()]
    tokens = [token for passage in passages for token in passage.tokens]
    scores: list[Score | None] = [None, *(reply.prompt_scores or ())]
    scores += [None] * (len(tokens) - len(scores))
    return Piece(
        "".join(passage.text for passage in passages),
        tuple(
            chosen(token, raw, score, spelling)
            for (token, raw), score in zip(tokens, scores, strict=True)
        ),
    )


def chosen(token: int, raw: bytes, score: Score | None, spelling: Spelling) -> ChosenToken:
    """A token with what is known of how likely it was."""
    if score is None:
        return ChosenToken(token, raw)
    top = tuple((other, spelling.raw(other), logprob) for other, logprob in score.top)
    return ChosenToken(token, raw, score.logprob, top)
