"""A conversation as a model was taught to read it: by its tokenizer's chat template.

A template is a program that came with the model. transformers runs it in jinja's sandbox; here it
has a bounded number of lines to run, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import FrameType
from typing import Any

from swarm.errors import RequestError
from swarm.quoting import quoted

from .cuts import Cutter, unused

_MAX_LINES = 2_000_000
"""Lines of a template that may run, which take seconds; a long conversation takes thousands."""

_THOUGHTS = frozenset({"<think>", "</think>"})
"""What templates look for in the model's own messages."""

_ASKED = {"role": "user", "content": "."}
_CALLS = [{"id": "probe1abc", "type": "function", "function": {"name": ".", "arguments": {}}}]
_PROBES: Sequence[Sequence[Mapping[str, Any]]] = (
    [_ASKED],
    [{"role": "system", "content": "."}, _ASKED],
    [_ASKED, {"role": "assistant", "content": "."}, _ASKED],
    [
        _ASKED,
        {"role": "assistant", "content": "", "tool_calls": _CALLS},
        {"role": "tool", "name": ".", "tool_call_id": "probe1abc", "content": "."},
    ],
)
"""Conversations in which all that stands is what a template puts around messages."""


class TemplateError(RequestError):
    """The template does not take this conversation."""


class ChatTemplate:
    """The chat template of a tokenizer, a transformers `PreTrainedTokenizerBase`.

    Raises `RequestError` where the model `name` has none.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        if not tokenizer.chat_template:
            raise RequestError(f"{name} has no chat template; give a plain prompt")
        self._tokenizer = tokenizer
        self._name = name

    @cached_property
    def source(self) -> str:
        """What it is written as; of several, the one for tools."""
        try:
            source: str = self._tokenizer.get_chat_template(tools=[{}])
        except ValueError as error:  # several, and none by default
            raise self._fails(error) from error
        return source

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        continued: bool = False,
        asking: bool = True,
    ) -> str:
        """The conversation as text: an answer is to follow, or, where it is `continued`, more of
        the last message; neither if not `asking`. Raises `TemplateError`.
        """
        from jinja2 import TemplateError as JinjaError

        try:
            with _bounded():
                text: str = self._tokenizer.apply_chat_template(
                    list(messages),
                    tools=list(tools) or None,
                    add_generation_prompt=asking and not continued,
                    continue_final_message=continued,
                    tokenize=False,
                )
        except JinjaError as error:
            raise TemplateError(
                f"{self._name}'s chat template refuses this conversation: {quoted(str(error))}"
            ) from error
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            # Expressions of the template that stumble over what they are given.
            raise self._fails(error) from error
        return text

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        continued: bool = False,
    ) -> list[int]:
        """The conversation as token ids; see `render`.

        They are those of `apply_chat_template`, except that contents never become control tokens.
        """
        letter = unused([messages, tools])
        talk = [self._cutter(message).cut(message, letter) for message in messages]
        known = [self._all_names.cut(tool, letter) for tool in tools]
        return self._ids(self.render(talk, known, continued=continued).split(letter))

    def _cutter(self, message: Mapping[str, Any]) -> Cutter:
        # The model's own words hold the tokens that nobody has hidden from who repeats them.
        return self._special_names if message.get("role") == "assistant" else self._all_names

    @cached_property
    def _special_names(self) -> Cutter:
        tokenizer = self._tokenizer
        added = tokenizer.added_tokens_decoder.values()
        names = {token.content for token in added if token.special} - _THOUGHTS
        return Cutter(names | set(tokenizer.all_special_tokens))

    @cached_property
    def _all_names(self) -> Cutter:
        """Special tokens, and the others that the template writes: more of them may be words."""
        tokenizer = self._tokenizer
        added = tokenizer.added_tokens_decoder.values()
        written = self._written
        names = {token.content for token in added if token.special or token.content in written}
        spaces = {name for name in names if name.isspace()}
        return Cutter((names - spaces) | set(tokenizer.all_special_tokens))

    @cached_property
    def _written(self) -> str:
        """What the template writes itself: its source, and, as that may put names together from
        parts (`<|{{ role }}|>`), some conversations of hardly any words.
        """
        shown = [self.source]
        for talk in _PROBES:
            try:
                shown.append(self.render(talk))
            except TemplateError:
                continue  # It takes no such conversation, of which nobody is then asked.
        return "\n".join(shown)

    def _ids(self, parts: Sequence[str]) -> list[int]:
        """The ids of a text in parts that no token may go across."""
        ids = self._encoded(parts[0])
        if len(parts) > 1:
            # Some tokenizers put a space before whatever they are given.
            anchor = self._encoded("\n")
            for part in parts[1:]:
                more = self._encoded("\n" + part)
                is_apart = more[: len(anchor)] == anchor
                ids += more[len(anchor) :] if is_apart else self._encoded(part)
        return ids

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _fails(self, error: Exception) -> TemplateError:
        first = str(error).partition("\n")[0]
        return TemplateError(
            f"{self._name}'s chat template fails on this conversation: {quoted(first)}"
        )


@contextmanager
def _bounded() -> Iterator[None]:
    """Ends a template that does not end by itself; this thread's alone.

    Its loops run in this process, and nothing else stops a thread from outside.
    """
    from jinja2 import TemplateRuntimeError

    lines = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        if lines > _MAX_LINES:
            raise TemplateRuntimeError("it takes too long")
        return count

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        return count if frame.f_code.co_filename == "<template>" else None

    if sys.gettrace() is not None:  # a debugger's, or that of a measurement
        yield
        return
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)
