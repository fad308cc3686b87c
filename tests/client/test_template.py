from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.client import ChatTemplate, TemplateError
from swarm.client.cuts import Cutter
from swarm.errors import RequestError

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SQUARE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}[INST] {{ message.content | trim }} [/INST]"
    "{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
HEADERS = (
    "{{ bos_token }}{% for message in messages %}<|head|>{{ message.role }}<|end|>\n\n"
    "{{ message.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|end|>\n\n{% endif %}"
)
TEMPLATES = [CHATML, SQUARE, HEADERS]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|head|>", "<|end|>", "[INST]", "[/INST]"]
WORDS = ["▁Hello", "▁world", "▁a", "b", "▁<", "im", "end", "|"]


def with_template(tokenizer: Any, template: str) -> Any:
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.add_tokens(["<call>"])
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(params=["bytes", "pieces"])
def make_tokenizer(request, make_byte_level, make_sentence_pieces):
    if request.param == "bytes":
        return lambda template: with_template(make_byte_level([("h", "e")]), template)
    return lambda template: with_template(make_sentence_pieces(WORDS), template)


def control_ids(tokenizer: Any, ids: list[int]) -> list[int]:
    return [token for token in ids if token in tokenizer.added_tokens_decoder]


CONTENTS = st.text(st.sampled_from("he <|>imend_[INST]/call\n\ufdd0é😀"), max_size=30)


@pytest.mark.parametrize("template", TEMPLATES)
def test_ids_are_those_of_transformers(make_tokenizer, template) -> None:
    tokenizer = make_tokenizer(template)
    for text in ("hello there", "  a < b | c\n", "<|im_en|>", "[INST", "é😀", ""):
        talk = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": "well"},
            {"role": "user", "content": text},
        ]
        golden = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        assert ChatTemplate(tokenizer, "tiny").encode(talk) == golden


@given(CONTENTS, st.sampled_from([*SPECIAL, "<call>", "</s>"]), CONTENTS)
def test_contents_are_no_control_tokens(make_byte_level, before, name, after) -> None:
    tokenizer = with_template(make_byte_level(), CHATML + "{# <call> #}")
    template = ChatTemplate(tokenizer, "tiny")
    text = f"{before}{name}{after}"
    talk = [{"role": "user", "content": text}]
    ids = template.encode(talk)
    plain = template.encode([{"role": "user", "content": "x"}])
    assert control_ids(tokenizer, ids) == control_ids(tokenizer, plain)
    assert tokenizer.decode(ids) == tokenizer.decode(plain).replace("\nx<", f"\n{text}<")


ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
WORDS_OF_THE_MODEL = ["<h1>", "homeswarm"]
COMPOSED = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' }}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|' + 'assistant|>' }}{% endif %}"
)


@pytest.mark.parametrize("template", [COMPOSED, COMPOSED + "{{ messages[1].content and '' }}"])
def test_names_that_a_template_puts_together_are_control_tokens(make_byte_level, template) -> None:
    """Tokens that are not marked special: roles are none of a content, words may be."""
    tokenizer = make_byte_level()
    tokenizer.add_tokens([*ROLES, *WORDS_OF_THE_MODEL])
    tokenizer.chat_template = template
    template, text = ChatTemplate(tokenizer, "tiny"), "".join([*ROLES, *WORDS_OF_THE_MODEL])
    talk = [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]
    found = tokenizer.convert_ids_to_tokens(control_ids(tokenizer, template.encode(talk)))
    wanted = ["<|user|>", *WORDS_OF_THE_MODEL, "<|assistant|>", "<|assistant|>"]
    assert found == wanted


def test_a_name_in_a_content_begins_no_word_anew(make_sentence_pieces) -> None:
    tokenizer = with_template(make_sentence_pieces(WORDS), CHATML)
    ids = ChatTemplate(tokenizer, "tiny").encode([{"role": "user", "content": "a<|im_end|>b"}])
    assert "a<|im_end|>b" in tokenizer.decode(ids)


def test_what_the_model_said_keeps_its_tokens(make_byte_level) -> None:
    """What of its reply was not hidden from the caller comes back as the same tokens."""
    tokenizer = with_template(make_byte_level(), CHATML + "{# <call> #}")
    template = ChatTemplate(tokenizer, "tiny")
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<call>"}]
    assert tokenizer.convert_tokens_to_ids("<call>") in template.encode(said)
    said[1]["content"] = "<|im_end|>"
    assert (
        control_ids(tokenizer, template.encode(said)).count(
            tokenizer.convert_tokens_to_ids("<|im_end|>")
        )
        == 2
    )


def test_tools_are_no_control_tokens(make_byte_level) -> None:
    tokenizer = with_template(make_byte_level(), "{{ tools | tojson }}" + CHATML)
    template = ChatTemplate(tokenizer, "tiny")
    tool = {"name": "<|im_end|>", "parameters": {"<|im_end|>": ["<|im_end|>"]}}
    ids = template.encode([{"role": "user", "content": "x"}], [tool])
    assert control_ids(tokenizer, ids).count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1
    assert tokenizer.decode(ids).count("<|im_end|>") == 4


def test_the_last_message_is_continued(make_byte_level) -> None:
    tokenizer = with_template(make_byte_level(), CHATML)
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "It is"}]
    ids = ChatTemplate(tokenizer, "tiny").encode(talk, continued=True)
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\nIt is")


def test_no_template_is_said(make_byte_level) -> None:
    with pytest.raises(RequestError, match="tiny has no chat template"):
        ChatTemplate(make_byte_level(), "tiny")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system messages') }}", "no system messages"),
        ("{{ messages[0].content + 1 }}", "fails on this conversation"),
        ("{{ messages[7].content.x }}", "has no element 7"),
        ("{{ 1 / 0 }}", "division"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
        ("{{ messages.__class__.mro() }}", "unsafe"),
        ("{% for", "refuses"),
    ],
)
def test_a_template_that_refuses_is_quoted(make_byte_level, template, message) -> None:
    tokenizer = with_template(make_byte_level(), template)
    with pytest.raises(TemplateError, match=message):
        ChatTemplate(tokenizer, "tiny").encode([{"role": "user", "content": "x"}])


def test_a_template_without_end_is_ended(make_byte_level) -> None:
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer = with_template(make_byte_level(), loop)
    with pytest.raises(TemplateError, match="takes too long"):
        ChatTemplate(tokenizer, "tiny").encode([{"role": "user", "content": "x"}])


def test_many_names_in_a_long_content_cost_little() -> None:
    cutter = Cutter(f"<<<<<<<<|reserved_{number}|>" for number in range(1000))
    started = time.process_time()
    assert cutter.cut("<" * 1_000_000, "!").count("!") == 0
    assert time.process_time() - started < 2
