"""The parts of `swarm chat` that need no terminal; what a person sees is in tests/terminal."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from swarm.cli.chat import document, settings
from swarm.cli.chat.clean import clean
from swarm.cli.chat.commands import COMMANDS, parse
from swarm.cli.chat.completer import CommandCompleter
from swarm.cli.chat.conversation import Conversation, Turn
from swarm.cli.chat.history import PrivateHistory
from swarm.cli.chat.ink import Ink
from swarm.cli.chat.screen import Screen
from swarm.cli.chat.source import Pipe
from swarm.errors import ConfigError, RequestError

TEXTS = st.text(max_size=40)


@given(TEXTS)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = clean(text)
    assert not [c for c in shown if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert clean(shown) == shown
    shown.encode()


@pytest.mark.parametrize("text", ["a b", "ñ 漢字 👩‍👩‍👧 \u3000", "می‌خواهم", "e\u0301", "\tx\n"])
def test_what_people_write_is_left_as_it_is(text: str) -> None:
    assert clean(text) == text


@given(st.lists(st.text("`~# ab\n", max_size=8), max_size=12))
def test_colours_change_no_text_and_no_line_ends_in_one(pieces: list[str]) -> None:
    ink = Ink()
    shown = "".join(map(ink.feed, pieces)) + ink.flush()
    bare = shown
    for code in ("\x1b[36m", "\x1b[2m", "\x1b[1m", "\x1b[0m"):
        bare = bare.replace(code, "")
    assert bare == "".join(pieces)
    for line in shown.split("\n"):
        assert line.rfind("\x1b[0m") >= max(map(line.rfind, ("\x1b[36m", "\x1b[2m", "\x1b[1m")))


def test_code_and_headings_have_colours_also_in_small_pieces() -> None:
    ink = Ink()
    shown = "".join(map(ink.feed, "# Title\n```py\nx = 1\n```\nplain"))
    assert "\x1b[1m# Title\x1b[0m\n" in shown and "\x1b[36mx = 1\x1b[0m\n" in shown
    assert shown.endswith("\nplain") and ink.flush() == ""


def test_notes_begin_lines_of_their_own() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.write("half")
    screen.end()
    screen.end()
    screen.write("whole\n")
    screen.end()
    assert out.getvalue() == "half\nwhole\n"


@given(TEXTS, st.lists(st.builds(Turn, TEXTS, TEXTS, st.booleans()), max_size=3))
def test_json_brings_a_conversation_back_to_the_letter(system: str, turns: list[Turn]) -> None:
    talk = Conversation(system, turns)
    text = document._as_json(document._messages(talk), "a/model")
    assert document._conversation(document._from_json(text)) == talk
    assert all(each.isprintable() or each == "\n" for each in text)


HEADINGS = st.sampled_from(["## You <!-- user -->", "\\## x <!-- stopped -->", "text", "```", ""])


@given(st.lists(HEADINGS, min_size=1, max_size=5).map("\n".join))
def test_markdown_is_not_confused_by_its_own_headings(text: str) -> None:
    turn = Turn(text, text, False)
    shown = document._as_markdown(document._messages(Conversation("", [turn])), "a/model")
    (back,) = document._conversation(document._from_markdown(shown)).turns
    assert back == Turn(text.strip("\n"), text.strip("\n"), False)


def test_a_file_is_private_and_not_written_over(tmp_path: Path) -> None:
    talk = Conversation("be brief", [Turn("why?", "because \x1b[31m")])
    path = tmp_path / "talk.md"
    document.save(str(path), talk, "a/model")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and "\x1b" not in path.read_text()
    with pytest.raises(ConfigError, match="/save!"):
        document.save(str(path), Conversation(), "a/model")
    assert document.load(str(path)).turns[0].asked == "why?"
    document.save(str(path), Conversation("else", []), "a/model", over=True)
    assert document.load(str(path)) == Conversation("else", [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", "[]"),
        ("x.json", "[" * 100_000),
        ("x.json", '{"messages": [{"role": "user", "content": "and?"}]}'),
        ("x.json", '{"messages": [{"role": "tool", "content": ""}]}'),
        ("x.md", "# Shopping\n\n- milk"),
        ("x.md", "\udcff"),
    ],
)
def test_files_that_hold_no_conversation_are_told(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError):
        document.load(str(tmp_path / name))
    with pytest.raises(ConfigError):
        document.load(str(tmp_path))


@dataclass(frozen=True)
class Sampling:
    max_new_tokens: int = 5
    temperature: float = 0.0
    seed: int | None = 3
    stop: tuple[str, ...] = ()


def test_settings_are_read_as_they_are_meant() -> None:
    sampling = Sampling()
    assert settings.changed(sampling, "max_tokens", "9").max_new_tokens == 9  # type: ignore[arg-type]
    assert settings.changed(sampling, "seed", "none").seed is None  # type: ignore[arg-type]
    changed = settings.changed(sampling, "stop", '"the end" \\\\n')  # type: ignore[arg-type]
    assert changed.stop == ("the end", "\n")
    for name, value in [("warmth", "1"), ("temperature", "hot"), ("stop", '"open')]:
        with pytest.raises(RequestError):
            settings.changed(sampling, name, value)  # type: ignore[arg-type]


def test_every_setting_is_one_of_a_sampling_config() -> None:
    from swarm.client import SamplingConfig

    told = settings.told(SamplingConfig(stop=("x",)))
    assert [line.split()[0] for line in told] == list(settings.NAMES)
    assert settings.changed(SamplingConfig(), "top-p", "0.9").top_p == 0.9
    with pytest.raises(RequestError, match="top_p"):
        settings.changed(SamplingConfig(), "top_p", "7")


def test_commands_are_told_from_questions() -> None:
    assert parse("what is /model?") == "what is /model?"
    assert parse("//etc is a folder") == "/etc is a folder"
    command, rest = parse("/save  my talk.md ")
    assert (command.name, rest) == ("save", "my talk.md")  # type: ignore[attr-defined]
    for wrong in ("/modl", "/save", "/new now", "/"):
        with pytest.raises(RequestError):
            parse(wrong)
    with pytest.raises(RequestError, match="perhaps /model"):
        parse("/modl x")


def test_every_command_is_carried_out_by_somebody() -> None:
    from swarm.cli.chat.talk import Talk

    talk = Talk(None, None, None, None, None)  # type: ignore[arg-type]
    assert set(talk._commands) == {command.name for command in COMMANDS}


def test_tab_offers_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.md").touch()
    completer = CommandCompleter(lambda: ["a/model", "b/model"])

    def offered(text: str) -> list[str]:
        found = completer.get_completions(Document(text), CompleteEvent())
        return [each.text for each in found]

    assert offered("/sa") == ["save", "save!"]
    assert offered("/model b") == ["b/model"]
    assert offered("/set temp") == ["temperature"]
    assert offered("/load ta") == ["lk.md"]
    assert not offered("save") and not offered("//sa") and not offered("/new x")


def test_history_is_bounded_and_forgives(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "history"
    history = PrivateHistory(path)
    history.store_string("one\nline more")
    with path.open("ab") as file:
        file.write(b"no string\n")
    history.store_string("two")
    assert list(PrivateHistory(path).load_history_strings()) == ["two", "one\nline more"]
    for number in range(2100):
        history.store_string(f"{number}")
    assert next(iter(PrivateHistory(path).load_history_strings())) == "2099"
    assert len(path.read_bytes().splitlines()) == 1000


async def test_a_pipe_gives_line_by_line() -> None:
    read, write = os.pipe()
    os.write(write, "one\ntwo \\\nthree\n\nñ\r\nlast".encode())
    os.close(write)
    try:
        pipe = Pipe(read)
        lines = [await pipe.read() for _ in range(6)]
        assert lines == ["one", "two \nthree", "", "ñ", "last", None]
        assert await pipe.read("a default") == "a default"
    finally:
        os.close(read)
