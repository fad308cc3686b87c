from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.client.spelling import Spelling
from swarm.client.text import Passage, TextStream

MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "w"), ("ð", "Ł"), ("ðŁ", "ĺ")]
WORDS = ["▁Hello", "▁world", "▁", "llo", "wor", "▁a", "b", ".", "ü"]


def streamed_passages(
    tokenizer, ids: list[int], stop: tuple[str, ...] = ()
) -> tuple[list[Passage], TextStream]:
    """What a stream makes of tokens, each of which is to come once and to be what the text is."""
    stream = TextStream(tokenizer, Spelling(tokenizer), stop)
    found = []
    for token in ids:
        found.append(stream.push(token))
        if stream.finished:
            break
    else:
        found.append(stream.flush())
    for passage in found:
        raw = b"".join(token.raw for token in passage.tokens)
        assert raw.decode(errors="replace") == passage.text
    told = [token.id for passage in found for token in passage.tokens]
    assert told == ids[: len(told)] and (stream.finished or told == ids)
    return found, stream


def streamed(tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    found, stream = streamed_passages(tokenizer, ids, stop)
    return [passage.text for passage in found], stream


def test_a_character_of_several_tokens_comes_whole(make_byte_level) -> None:
    tokenizer = make_byte_level()
    ids = tokenizer("a😀é")["input_ids"]
    pieces, _ = streamed(tokenizer, ids)
    assert pieces == ["a", "", "", "", "😀", "", "é", ""]


def test_a_character_that_never_ends_comes_at_the_end(make_byte_level) -> None:
    tokenizer = make_byte_level()
    ids = tokenizer("a😀")["input_ids"][:-1]
    pieces, _ = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == "a\N{REPLACEMENT CHARACTER}"


def test_bytes_that_are_no_characters_do_not_stop_the_stream(make_byte_level) -> None:
    tokenizer = make_byte_level()
    (start,) = {tokenizer("😀")["input_ids"][0]}
    pieces, _ = streamed(tokenizer, [start] * 20)
    assert any(pieces[:-1]) and len("".join(pieces)) == 20


def test_special_tokens_are_no_text(make_byte_level) -> None:
    tokenizer = make_byte_level()
    ids = tokenizer("ab")["input_ids"]
    pieces, _ = streamed(tokenizer, [1, ids[0], 0, ids[1], 2])
    assert "".join(pieces) == "ab"


def test_spaces_between_words_are_kept(make_sentence_pieces) -> None:
    """Such tokenizers strip the first space of whatever is decoded at once."""
    tokenizer = make_sentence_pieces(WORDS)
    ids = tokenizer.convert_tokens_to_ids(["▁Hello", "▁world", "▁", "▁a", "b"])
    pieces, _ = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    assert pieces[:2] == ["Hello", " world"]


def test_text_ends_before_a_stop_string_split_over_tokens(make_byte_level) -> None:
    tokenizer = make_byte_level()
    pieces, stream = streamed(tokenizer, tokenizer("one END two")["input_ids"], ("END",))
    assert stream.finished and "".join(pieces) == "one "
    assert len(pieces) == len("one END")


def test_what_only_begins_like_a_stop_string_is_text(make_byte_level) -> None:
    tokenizer = make_byte_level()
    for text in ("one EN two", "one ENEND", "EEEE", "one EN"):
        pieces, stream = streamed(tokenizer, tokenizer(text)["input_ids"], ("END!", "ENDE"))
        assert not stream.finished and "".join(pieces) == text


def test_the_first_of_several_stop_strings_counts(make_byte_level) -> None:
    tokenizer = make_byte_level([("a", "b"), ("ab", "c")])
    pieces, stream = streamed(tokenizer, tokenizer("xabcy")["input_ids"], ("c", "bc"))
    assert stream.finished and "".join(pieces) == "xa"
    assert stream.stopped_by == "bc"


def test_a_stop_string_cuts_the_token_that_it_begins_in(make_byte_level) -> None:
    tokenizer = make_byte_level([("a", "b"), ("ab", "c"), ("x", "y")])
    ids = tokenizer("xyabcd")["input_ids"]
    found, stream = streamed_passages(tokenizer, ids, ("cd",))
    assert [passage.text for passage in found] == ["xy", "", "ab"]
    assert [token.raw for token in found[-1].tokens] == [b"ab"] and stream.stopped_by == "cd"


def test_a_stop_string_within_bytes_that_are_no_characters(make_byte_level) -> None:
    tokenizer = make_byte_level()
    half, letter = tokenizer("😀")["input_ids"][:2], tokenizer("E")["input_ids"]
    found, stream = streamed_passages(tokenizer, [*half, *letter], ("E",))
    assert stream.finished
    (passage,) = [passage for passage in found if passage.text]
    assert passage.text == "\N{REPLACEMENT CHARACTER}"
    assert b"".join(token.raw for token in passage.tokens) == "😀".encode()[:2]


def test_which_stop_string_came_does_not_depend_on_how_text_is_cut(make_byte_level) -> None:
    for merges in ([], [("a", "b"), ("c", "d"), ("ab", "cd")]):
        tokenizer = make_byte_level(merges)
        pieces, stream = streamed(tokenizer, tokenizer("abcd")["input_ids"], ("bcd", "c"))
        assert "".join(pieces) == "ab" and stream.stopped_by == "c"


def test_the_name_of_a_special_token_is_a_stop_string_too(make_byte_level) -> None:
    tokenizer = make_byte_level()
    ids = tokenizer("aEN😀")["input_ids"]
    found, stream = streamed_passages(tokenizer, [*ids[:3], 1, 2, ids[3]], ("END", "</s>"))
    assert stream.stopped_by == "</s>" and "".join(passage.text for passage in found) == "aEN"
    assert [token.id for passage in found for token in passage.tokens] == [*ids[:3], 1]
    # A stop string that was held back, and is now complete, came before.
    _, stream = streamed_passages(tokenizer, [*ids[:3], ids[3], 2], ("\ufffd", "</s>"))
    assert stream.stopped_by == "\ufffd"


def test_a_stop_string_of_a_special_token_and_text(make_byte_level) -> None:
    tokenizer = make_byte_level()
    a, newline, b = tokenizer("a\nb")["input_ids"]
    stop = ("</s>\n", "s>b")
    pieces, stream = streamed(tokenizer, [a, 2, newline, b], stop)
    assert "".join(pieces) == "a" and stream.stopped_by == "</s>\n"
    # What only begins so is text, and the name of a token is none.
    found, stream = streamed_passages(tokenizer, [a, 2, b], stop)
    assert "".join(passage.text for passage in found) == "ab" and not stream.finished
    assert [len(passage.tokens) for passage in found[:2]] == [1, 0], "it may become a stop string"
    pieces, stream = streamed(tokenizer, tokenizer("a</s")["input_ids"] + [2], ("a</s</s>",))
    assert not "".join(pieces) and stream.stopped_by == "a</s</s>"


def test_a_stop_string_with_a_tokens_name_may_be_spelled_too(make_byte_level) -> None:
    tokenizer = make_byte_level()
    spelled = [each for letter in "a</s>\n" for each in tokenizer(letter)["input_ids"]]
    pieces, stream = streamed(tokenizer, spelled, ("</s>\n",))
    assert "".join(pieces) == "a" and stream.stopped_by == "</s>\n"


def test_special_tokens_come_though_they_are_no_text(make_byte_level) -> None:
    found, _ = streamed_passages(make_byte_level(), [1, 0])
    (passage,) = [passage for passage in found if passage.tokens]
    assert passage.tokens == ((1, b""), (0, b"")) and passage.text == ""


def test_a_stop_string_that_ends_with_the_last_token(make_byte_level) -> None:
    tokenizer = make_byte_level()
    stream = TextStream(tokenizer, Spelling(tokenizer), ("é",))
    ids = tokenizer("aé")["input_ids"]
    assert [stream.push(token).text for token in ids[:-1]] == ["a", ""]
    stream.push(ids[-1])
    assert stream.finished


TEXTS = st.text(
    st.sampled_from("abhelow é😀ß👩\u200d‍ 中\n\t\u0301") | st.characters(codec="utf-8"), max_size=30
)


@given(TEXTS, st.booleans())
def test_pieces_put_together_are_the_text(make_byte_level, text, merged) -> None:
    tokenizer = make_byte_level(MERGES if merged else [])
    ids = tokenizer(text)["input_ids"]
    pieces, _ = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == text
    # Nothing is taken back, and no half character is shown, unless the text has some itself.
    assert "\N{REPLACEMENT CHARACTER}" in text or not any("\ufffd" in p for p in pieces)


@given(st.lists(st.sampled_from(WORDS) | st.integers(0, 255), max_size=20))
def test_pieces_of_words_and_of_bytes_put_together(make_sentence_pieces, parts) -> None:
    tokenizer = make_sentence_pieces(WORDS)
    ids = []
    for part in parts:
        names = [part] if isinstance(part, str) else [f"<0x{b:02X}>" for b in chr(part).encode()]
        ids += tokenizer.convert_tokens_to_ids(names)
    pieces, _ = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)


@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_string(make_byte_level, text, stop) -> None:
    tokenizer = make_byte_level()
    pieces, stream = streamed(tokenizer, tokenizer(text)["input_ids"], tuple(stop))
    # The stop that is complete first decides; of those, the one that begins first.
    ends = [text.find(one) + len(one) for one in stop if one in text]
    if not ends:
        assert not stream.finished and "".join(pieces) == text
        return
    seen = text[: min(ends)]
    starts = [seen.find(one) for one in stop if one in seen]
    assert stream.finished and "".join(pieces) == seen[: min(starts)]
