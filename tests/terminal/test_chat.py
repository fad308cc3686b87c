"""A person who talks: the keys, the screen, and what a model cannot do to it."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAM = str(Path(__file__).with_name("talking.py"))


@pytest.fixture
def talk(terminal: Any, tmp_path: Path) -> Callable[..., AbstractContextManager[Any]]:
    """`with talk() as screen`: a conversation at its first prompt."""

    @contextmanager
    def start(**options: Any) -> Iterator[Any]:
        with terminal(sys.executable, PROGRAM, str(tmp_path / "kept" / "history"), **options) as t:
            t.wait(at_prompt)
            yield t

    return start


def at_prompt(screen: Any) -> bool:
    """Whether it waits for what comes next."""
    return bool(screen.cursor_line == ">")


def test_words_of_a_model_move_nothing(talk: Any) -> None:
    with talk() as screen:
        screen.enter("hostile")
        text = screen.wait("context 4 of 20")
        assert "\ufffd]0;owned\ufffd\ufffd[2J\ufffd[H\ufffd31mred" in text
        assert "\ufffdreversed\ufffd" in text and "\ufffd[?1049hover\ufffd\ufffd" in text
        for forbidden in (b"\x1b]", b"\x9b31m", b"\x1b[2J", b"\x1b[?1049h", "\u202e".encode()):
            assert forbidden not in screen.written
        screen.wait(at_prompt)


def test_ctrl_c_ends_the_answer_and_not_the_conversation(talk: Any) -> None:
    with talk() as screen:
        screen.enter("long")
        screen.wait("word5 ")
        screen.type("\x03")
        screen.wait("stopped · ")
        screen.wait(at_prompt)
        screen.enter("what was said?")
        # What came before it was stopped is part of the conversation.
        screen.wait('["long", "word0 word1')
        screen.wait('"what was said?"]')
        screen.wait(at_prompt)
        screen.enter("wait")
        screen.wait("Waiting: no peer serves blocks 3:4")
        screen.type("\x03")
        screen.wait("Stopped before a word had come")
        screen.wait(at_prompt)
        screen.type("half a line")
        screen.wait(lambda s: s.cursor_line == "> half a line")
        screen.type("\x03")
        screen.wait(at_prompt)
        screen.type("\x03")
        screen.wait("Ctrl-C again leaves")
        screen.type("\x03")
        assert screen.ended() == 0


def test_ctrl_c_ends_what_comes_before_an_answer(talk: Any) -> None:
    with talk() as screen:
        screen.enter("very long")
        screen.wait("Reading …")
        screen.type("\x03")
        screen.wait("Stopped.")
        screen.enter("what was said?")
        screen.wait('["what was said?"]')


def test_what_is_typed_during_an_answer_comes_after_it(talk: Any) -> None:
    with talk() as screen:
        screen.enter("slow")
        screen.wait("word3 ")
        screen.type("typed ahead")
        screen.wait("word49")
        screen.wait(lambda s: s.cursor_line == "> typed ahead")
        assert screen.text.count("typed ahead") == 1


def test_an_answer_that_broke_off_goes_on(talk: Any) -> None:
    with talk() as screen:
        screen.enter("lost")
        screen.wait("no peer serves blocks 1:2")
        screen.wait(at_prompt)
        screen.enter("/retry")
        screen.wait(" second half")
        screen.wait(at_prompt)
        screen.enter("what was said?")
        screen.wait('["lost", "first half, second half", "what was said?"]')


def test_several_lines_are_one_question(talk: Any) -> None:
    with talk() as screen:
        screen.type("one\x1b\rtwo")
        screen.type("\\\rthree")
        screen.enter("\x1b[200~\nfour\nfive\x1b[201~")
        screen.wait(r'["one\ntwo\nthree\nfour\nfive"]')
        screen.wait(at_prompt)
        screen.resize(50, 20)
        screen.enter("/edit")
        screen.wait(lambda s: s.cursor_line.endswith("five"))
        screen.enter(", six")
        screen.wait(r"four\nfive, six")
        screen.wait(at_prompt)
        screen.type("\x04")
        assert screen.ended() == 0


def test_what_was_asked_is_there_the_next_time(talk: Any, tmp_path: Path) -> None:
    with talk() as screen:
        screen.enter("remember this")
        screen.wait('["remember this"]')
        screen.wait(at_prompt)
        screen.enter("/quit")
        assert screen.ended() == 0
    kept = tmp_path / "kept" / "history"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with talk() as screen:
        # The prompt reads what is kept just after it has been shown.
        screen.type("x")
        screen.wait(lambda s: s.cursor_line == "> x")
        screen.type("\x7f\x1b[A")
        screen.wait(lambda s: s.cursor_line == "> /quit")
        screen.type("\x1b[A")
        screen.wait(lambda s: s.cursor_line == "> remember this")


def test_a_conversation_is_kept_in_a_file(talk: Any, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    with talk() as screen:
        screen.enter("a question")
        screen.wait('["a question"]')
        screen.enter(f"/save {file}")
        screen.wait("Saved 1 turns")
        screen.enter(f"/save {file}")
        screen.wait("is there already")
        screen.enter(f"/save! {file}")
        screen.wait(lambda s: s.text.count("Saved 1 turns") == 2)
        screen.enter("/new")
        screen.wait("A new conversation")
        screen.enter(f"/load {file}")
        screen.wait("Going on after 1 turns")
        screen.type("/mo")
        screen.wait("list the group's models")
        screen.type("\t")
        screen.wait(lambda s: s.cursor_line.startswith("> /model"))
        screen.type(" b/")
        screen.wait("b/model")
        screen.type("\t")
        screen.wait(lambda s: s.cursor_line.startswith("> /model b/model"))
        screen.type("\x03")
        screen.wait(at_prompt)
        screen.enter("and now?")
        screen.wait(r'["a question", "[\"a question\"]", "and now?"]')


def test_a_conversation_that_is_too_long_may_forget(talk: Any) -> None:
    with talk(lines=60) as screen:
        # The model reads 20 messages, and an answer takes as much room as 8.
        for number in range(6):
            screen.enter(f"question {number}")
            screen.wait(f"context {2 * number + 2} of 20")
            screen.wait(at_prompt)
        screen.enter("one more")
        screen.wait("Forget the oldest turn? [y/N]")
        screen.enter("y")
        screen.wait('"one more"]')
        assert '["question 1"' in screen.text.split("Forget")[1]
        screen.wait(at_prompt)
        screen.enter("two more")
        screen.wait(lambda s: s.text.count("Forget the oldest turn?") == 2)
        screen.enter()
        screen.wait("/new all")
        # The question stands there still.
        screen.wait(lambda s: s.cursor_line == "> two more")
