"""How a model is talked to: found out from its chat template, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from swarm.client import ChatTemplate, RemoteModel, TemplateError

from .tools.discovery import Found, discover
from .tools.syntax import PLAIN, Code, Syntax, letter_of

_SHOWN = "Probed"
_THOUGHTS = ("<think>", "</think>")


@dataclass(frozen=True)
class Manners:
    """How a model is talked to.

    `found` is how its template writes calls, None where tools have to be described in words;
    `syntax` is how it calls. `letters` are the coded ones of special tokens, by id. `takes_system`
    says whether a system message reaches the model.
    """

    template: ChatTemplate
    found: Found | None
    syntax: Syntax
    letters: Mapping[int, str]
    takes_system: bool


_known: WeakKeyDictionary[RemoteModel, Manners] = WeakKeyDictionary()


def manners(model: RemoteModel) -> Manners:
    """This model's; takes some tens of milliseconds the first time.

    Raises `RequestError` for a model without a chat template.
    """
    if model not in _known:
        _known[model] = find_out(model.template, model.tokenizer, model.eos_ids)
    return _known[model]


def find_out(template: ChatTemplate, tokenizer: Any, eos_ids: set[int]) -> Manners:
    """The same, for a template and the tokenizer that it belongs to."""
    special = {
        token.content: number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special or number in tokenizer.all_special_ids
    }
    ends = frozenset(name for name, number in special.items() if number in eos_ids)
    found = discover(template, frozenset(special), ends)
    if found is not None and not _tells_results(template, found):
        found = None
    syntax = _with_thoughts(found.syntax if found else PLAIN, template, frozenset(special))
    letters = {special[name]: letter_of(at) for at, name in enumerate(syntax.special)}
    return Manners(template, found, syntax, letters, _takes_system(template))


def _with_thoughts(syntax: Syntax, template: ChatTemplate, special: frozenset[str]) -> Syntax:
    opening, closing = _THOUGHTS
    if closing not in template.source:
        return syntax
    code = Code(special, syntax.special)
    thoughts = code.code(opening), code.code(closing)
    return replace(syntax, thoughts=thoughts, special=tuple(code.names))


def _takes_system(template: ChatTemplate) -> bool:
    return _shows(
        template, [{"role": "system", "content": _SHOWN}, {"role": "user", "content": "Probe?"}]
    )


def _tells_results(template: ChatTemplate, found: Found) -> bool:
    call = found.given("probe1abc", "probe_function", {}, 0)
    return _shows(
        template,
        [
            {"role": "user", "content": "Probe?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "name": "probe_function",
                "content": _SHOWN,
            },
        ],
    )


def _shows(template: ChatTemplate, messages: Sequence[Mapping[str, Any]]) -> bool:
    try:
        return _SHOWN in template.render(messages)
    except TemplateError:
        return False
