"""Tokens as bytes, for the ways in which vocabularies write them down."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swarm.client.spelling import Spelling


def metaspace() -> PreTrainedTokenizerFast:
    """As T5's: marked spaces, no bytes."""
    words = [("<unk>", 0.0), ("▁Hello", -1.0), ("▁", -2.0), ("llo", -3.0), ("é", -4.0)]
    tokenizer = Tokenizer(models.Unigram(words, unk_id=0))
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def word_pieces() -> PreTrainedTokenizerFast:
    """As BERT's: a mark for what is no new word."""
    words = {"[UNK]": 0, "play": 1, "##ing": 2, "é": 3}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def bare_words() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({"one": 0, "two": 1}, unk_token="one"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_every_byte_of_a_byte_level_vocabulary(make_byte_level) -> None:
    tokenizer = make_byte_level()
    spelling = Spelling(tokenizer)
    for letter, byte in zip(
        sorted(pre_tokenizers.ByteLevel.alphabet()),
        (spelling.raw(token) for token in range(3, 259)),
        strict=True,
    ):
        # What the library itself makes of two such letters shows which bytes they are.
        assert len(byte) == 1
        if byte < b"\x80":
            assert tokenizer.backend_tokenizer.decoder.decode([letter]) == byte.decode()
    assert {spelling.raw(token) for token in range(3, 259)} == {bytes([b]) for b in range(256)}


@pytest.mark.parametrize("text", ["hello world", "a😀é", "\n\t\x00\x7f\xad", "中文 ß"])
def test_texts_of_bytes(make_byte_level, text: str) -> None:
    tokenizer = make_byte_level([("h", "e"), ("ð", "Ł"), ("Ġ", "w")])
    spelling = Spelling(tokenizer)
    ids = tokenizer(text)["input_ids"]
    assert b"".join(spelling.raw(token) for token in ids) == text.encode()


def test_added_tokens_are_what_they_say(make_byte_level) -> None:
    tokenizer = make_byte_level()
    tokenizer.add_tokens(["<tool call>", "Ġé"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    spelling = Spelling(tokenizer)
    ids = tokenizer.convert_tokens_to_ids(["<tool call>", "Ġé", "<|end|>", "<s>"])
    names = [b"<tool call>", "Ġé".encode(), b"<|end|>", b"<s>"]
    assert [spelling.raw(token) for token in ids] == names
    assert spelling.spell([ids[0], ids[2]], "<tool call>") == ((ids[0], names[0]), (ids[2], b""))


def test_pieces_with_marked_spaces_and_bytes(make_sentence_pieces) -> None:
    tokenizer = make_sentence_pieces(["▁Hello", "▁", "ü", "▁▁"])
    spelling = Spelling(tokenizer)
    words = ["▁Hello", "▁", "<0x0A>", "<0xF0>", "ü", "▁▁"]
    ids = tokenizer.convert_tokens_to_ids(words)
    raws = [b" Hello", b" ", b"\n", b"\xf0", "ü".encode(), b"  "]
    assert [spelling.raw(token) for token in ids] == raws
    # Such a decoder strips the first space.
    assert spelling.spell(ids[:2], "Hello ") == ((ids[0], b"Hello"), (ids[1], b" "))


def test_marked_spaces_without_bytes() -> None:
    spelling = Spelling(metaspace())
    assert [spelling.raw(token) for token in (1, 2, 3)] == [b" Hello", b" ", b"llo"]


def test_other_decoders_are_asked() -> None:
    spelling = Spelling(word_pieces())
    assert spelling.raw(1) == b"play" and spelling.raw(3) == "é".encode()
    # Alone it reads otherwise than in its place, where the text says what it is.
    assert spelling.spell([2], "ing") == ((2, b"ing"),)
    assert spelling.spell([1, 2], "playing") == ((1, b""), (2, b"playing"))
    assert Spelling(bare_words()).raw(1) == b"two"


def test_ids_beyond_the_tokens_have_no_bytes(make_byte_level) -> None:
    """Models round their vocabularies up."""
    assert Spelling(make_byte_level()).raw(299) == b""


def test_a_token_that_is_not_special_but_added_is_text(make_byte_level) -> None:
    tokenizer = make_byte_level()
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    token = tokenizer.convert_tokens_to_ids("<think>")
    assert tokenizer.decode([token], skip_special_tokens=True) == "<think>"
    assert Spelling(tokenizer).spell([token], "<think>") == ((token, b"<think>"),)
