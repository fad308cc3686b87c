"""A conversation as a file: JSON, from which it comes back to the letter, or Markdown to read.

In both, what a terminal would obey stands as harmless characters: somebody will print the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from swarm import state
from swarm.errors import ConfigError

from .clean import clean
from .conversation import Conversation, Turn

_MAX_BYTES = 64 << 20
_TITLES = {"system": "System", "user": "You", "assistant": "Answer", "stopped": "Answer, stopped"}
_HEADING = re.compile(r"(\\*)## [^\n]*<!-- (system|user|assistant|stopped) -->")


class _Message(msgspec.Struct, omit_defaults=True):
    role: Literal["system", "user", "assistant"]
    content: str
    stopped: bool = False


class _File(msgspec.Struct):
    messages: Annotated[list[_Message], msgspec.Meta(max_length=100_000)]
    model: str = ""


def save(name: str, conversation: Conversation, model: str, *, over: bool = False) -> Path:
    """Writes a private file and returns its path; JSON where its name ends so, else Markdown.

    Raises `ConfigError` where it cannot be written, and unless `over`, where there is a file.
    """
    path, messages = Path(name).expanduser(), _messages(conversation)
    is_json = path.suffix.lower() == ".json"
    text = _as_json(messages, model) if is_json else _as_markdown(messages, model)
    content = text.encode()
    if over:
        state.replace(path, content)
    elif not state.create(path, content):
        raise ConfigError(f"{path} is there already; /save! {name} writes over it")
    return path


def load(name: str) -> Conversation:
    """Reads what `save` wrote; raises `ConfigError` that says what is wrong with the file."""
    path = Path(name).expanduser()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is too large for a conversation")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text") from error
    is_json = path.suffix.lower() == ".json"
    try:
        return _conversation(_from_json(text) if is_json else _from_markdown(text))
    except ValueError as error:
        raise ConfigError(f"{path} holds no conversation: {error}") from error


def _messages(conversation: Conversation) -> list[_Message]:
    found = [_Message("system", conversation.system)] if conversation.system else []
    for turn in conversation.turns:
        found.append(_Message("user", turn.asked))
        found.append(_Message("assistant", turn.answer, not turn.whole))
    return found


def _conversation(messages: Sequence[_Message]) -> Conversation:
    """Raises `ValueError` unless questions and answers alternate."""
    system, rest = "", list(messages)
    if rest and rest[0].role == "system":
        system = rest.pop(0).content
    asked, answers = rest[::2], rest[1::2]
    roles = [message.role for message in rest]
    if roles != ["user", "assistant"] * len(answers):
        raise ValueError("messages of user and assistant must take turns")
    pairs = zip(asked, answers, strict=True)
    return Conversation(system, [Turn(a.content, b.content, not b.stopped) for a, b in pairs])


def _as_json(messages: Sequence[_Message], model: str) -> str:
    kept = msgspec.to_builtins(_File(list(messages), model))
    text = json.dumps(kept, ensure_ascii=False, indent=2)
    # All that stands outside of strings is printable: what is not is part of one, and may be
    # written as an escape there.
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n"


def _from_json(text: str) -> list[_Message]:
    try:
        return msgspec.json.decode(text, type=_File).messages
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _as_markdown(messages: Sequence[_Message], model: str) -> str:
    parts = [f"# Conversation with {clean(model)}\n"]
    for message in messages:
        kind = "stopped" if message.stopped else message.role
        parts.append(f"\n## {_TITLES[kind]} <!-- {kind} -->\n\n")
        # A line that looks like one of our headings gets a backslash more, and loses it again.
        for line in clean(message.content).strip("\n").split("\n"):
            parts.append(("\\" if _HEADING.fullmatch(line) else "") + line + "\n")
    return "".join(parts)


def _from_markdown(text: str) -> list[_Message]:
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        heading = _HEADING.fullmatch(line)
        if heading is not None and not heading[1]:
            found.append((heading[2], []))
        elif found:
            found[-1][1].append(line[1:] if heading is not None else line)
    if not found:
        raise ValueError("it has none of the headings by which its messages are known")
    return [_message(kind, "\n".join(lines).strip("\n")) for kind, lines in found]


def _message(kind: str, content: str) -> _Message:
    if kind == "stopped":
        return _Message("assistant", content, True)
    return msgspec.convert({"role": kind, "content": content}, _Message)
