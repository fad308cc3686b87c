"""Invites as QR codes: what is drawn is the code, and a code that does not fit is not drawn."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios

import pytest
import segno

from swarm.cli import _qr

LINE = "hs1" + "aebagbafaydqqcikbmga2dqpcaireeyu" * 12


def read_back(drawn: str, *, coloured: bool) -> list[list[bool]]:
    """The dark modules of a drawing."""
    rows: list[list[bool]] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", drawn).splitlines():
        upper = [letter in "▀█" for letter in line]
        lower = [letter in "▄█" for letter in line]
        rows += [upper, lower] if coloured else [[not u for u in upper], [not d for d in lower]]
    return rows


@pytest.mark.parametrize("coloured", [True, False])
def test_what_is_drawn_is_the_code_of_the_line_in_capitals(coloured):
    code = _qr.modules(LINE)
    expected = segno.make_qr(LINE.upper(), mode="alphanumeric", error="l")
    assert expected.mode == "alphanumeric"
    wanted = [[bool(dark) for dark in row] for row in expected.matrix_iter(border=4)]
    drawn = read_back(_qr.draw(code, coloured=coloured), coloured=coloured)
    assert drawn[: len(wanted)] == wanted
    assert not any(map(any, drawn[len(wanted) :])), "what fills up the last line is light"


def test_capitals_take_less_room():
    assert len(_qr.modules(LINE)) < len(segno.make_qr(LINE, error="l").matrix) + 8


def test_no_telephone_reads_a_line_that_is_too_long():
    assert _qr.modules("hs1" + "a" * 5000) is None


def drawn_on(columns: int, lines: int, wanted: bool | None) -> str:
    """What `show` writes to a terminal of this size."""
    reader, terminal = os.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        program = f"from swarm.cli import _qr; _qr.show({LINE!r}, {wanted!r})"
        with subprocess.Popen([sys.executable, "-c", program], stderr=terminal) as process:
            os.close(terminal)
            terminal = -1
            written = b""
            try:
                while more := os.read(reader, 65536):
                    written += more
            except OSError:  # Linux: the other side of the terminal is closed.
                pass
        assert process.returncode == 0
        return written.decode()
    finally:
        os.close(reader)
        if terminal >= 0:
            os.close(terminal)


def test_a_terminal_with_room_shows_it():
    code = _qr.modules(LINE)
    width, height = len(code[0]), (len(code) + 1) // 2 + 1
    shown = drawn_on(width, height, None)
    assert read_back(shown, coloured=True)[: len(code)] == [list(row) for row in code]
    assert shown.count("\x1b[38;5;16;48;5;231m") == height - 1


@pytest.mark.parametrize("lacking", [(1, 0), (0, 1)])
@pytest.mark.parametrize("wanted", [None, True])
def test_a_terminal_without_room_is_told_why(lacking, wanted):
    code = _qr.modules(LINE)
    width, height = len(code[0]), (len(code) + 1) // 2 + 1
    shown = drawn_on(width - lacking[0], height - lacking[1], wanted)
    assert f"takes {width} columns and {height} lines" in shown and "▀" not in shown


def test_it_can_be_switched_off():
    assert drawn_on(200, 200, False) == ""


def test_a_file_gets_it_on_demand_alone(capfd):
    _qr.show(LINE, None)
    assert capfd.readouterr() == ("", "")
    _qr.show(LINE, True)
    out, err = capfd.readouterr()
    code = _qr.modules(LINE)
    assert not out and "\x1b" not in err
    assert read_back(err, coloured=False)[: len(code)] == [list(row) for row in code]
