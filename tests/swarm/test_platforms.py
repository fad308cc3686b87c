"""What only some systems have: our code looks before it uses it, or stands behind the daemon.

libp2p's daemon, which hivemind brings along, exists for Linux and macOS alone, and only
`swarm/transport/daemon.py` speaks to it. All else is meant to run on Windows, too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("swarm", "peer", "client", "bootstrap", "gateway")

MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop"}
SIGNALS = {"SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGWINCH"}
SIGNALS |= {"SIGALRM", "SIGCHLD", "SIGTSTP", "alarm", "setitimer", "pthread_sigmask"}
SYSTEM = {"fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid"}
SYSTEM |= {"kill", "killpg", "mkfifo", "nice", "sched_getaffinity", "setpriority", "setsid"}
SYSTEM |= {"statvfs", "sysconf", "uname", "fchmod", "chown", "setuid", "wait4", "waitpid"}
SOCKETS = {"AF_UNIX", "SO_REUSEPORT", "AF_NETLINK", "SCM_RIGHTS"}
ASYNCIO = {"start_unix_server", "open_unix_connection", "add_signal_handler", "add_reader"}
ASYNCIO |= {"add_writer", "num_fds"}
NAMES = {"signal": SIGNALS, "os": SYSTEM, "socket": SOCKETS}

ASKING = ("hasattr", "sys.platform", "os.name", "getattr")
EXCUSING = ("ImportError", "AttributeError", "NotImplementedError")


def needs(node: ast.AST) -> str | None:
    """What of one system a piece of code names; None, if nothing."""
    match node:
        case ast.Import(names=names):
            return next((each.name for each in names if each.name in MODULES), None)
        case ast.ImportFrom(module=str(module)) if module in MODULES:
            return module
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in NAMES.get(owner, ()):
            return f"{owner}.{name}"
        case ast.Attribute(attr=name) if name in ASYNCIO:
            return name
        case ast.keyword(arg="pass_fds" | "preexec_fn" as name):
            return name
    return None


def unguarded(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of what is used without having been looked for.

    A function whose first part looks, and leaves, has looked.
    """

    def walk(node: ast.AST, looked: bool) -> Iterator[tuple[int, str]]:
        if not looked and (name := needs(node)):
            yield getattr(node, "lineno", 0), name
        for child in ast.iter_child_nodes(node):
            yield from walk(child, looked or guards(node, child))

    def guards(node: ast.AST, child: ast.AST) -> bool:
        if isinstance(node, ast.If | ast.IfExp):
            return child is not node.test and asks(node.test)
        if isinstance(node, ast.Try):
            caught = " ".join(ast.unparse(h.type) for h in node.handlers if h.type is not None)
            return child in node.body and any(name in caught for name in EXCUSING)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return any(leaves(each) for each in node.body[: _index(node.body, child)])
        return False

    yield from walk(tree, False)


def _index(body: list[ast.stmt], child: ast.AST) -> int:
    return next((i for i, each in enumerate(body) if each is child), 0)


def leaves(statement: ast.stmt) -> bool:
    """Whether it looks for something and returns or raises where that is missing."""
    if isinstance(statement, ast.If) and asks(statement.test):
        return isinstance(statement.body[-1], ast.Return | ast.Raise)
    return False


def asks(test: ast.expr) -> bool:
    return any(word in ast.unparse(test) for word in ASKING)


def test_nothing_of_one_system_is_used_unseen() -> None:
    found = {}
    paths = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    assert len(paths) > 100
    for path in paths:
        where = str(path.relative_to(ROOT))
        if where != "swarm/transport/daemon.py":
            if names := list(unguarded(ast.parse(path.read_text()))):
                found[where] = names
    assert not found


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("import fcntl", 1),
        ("try:\n import fcntl\nexcept ImportError:\n pass", 0),
        ("def f():\n os.kill(1, 2)", 1),
        ("def f():\n if not hasattr(os, 'kill'):\n  return\n os.kill(1, 2)", 0),
        ("if sys.platform != 'win32':\n os.getuid()", 0),
        ("if happy:\n signal.SIGUSR1", 1),
        ("run(pass_fds=(1,))", 1),
    ],
)
def test_the_search_finds(code: str, number: int) -> None:
    assert len(list(unguarded(ast.parse(code)))) == number


ELSEWHERE = """
import asyncio, builtins, os, signal, socket, sys

import importlib

# What others need of this system they get now, by a first time that everything is imported.
for name in {ours!r}:
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "swarm"]:
    del sys.modules[name]

MISSING = {modules!r}
builtin_import = builtins.__import__

def imported(name, scope=None, *rest):
    whose = (scope or {{}}).get("__name__", "")
    if name.partition(".")[0] in MISSING and whose.partition(".")[0] == "swarm":
        raise ImportError(name)
    return builtin_import(name, scope, *rest)

builtins.__import__ = imported
for owner, names in {names!r}.items():
    for each in names:
        if hasattr(sys.modules[owner], each):
            delattr(sys.modules[owner], each)

class Locks:
    LK_NBLCK, held = 2, set()
    def locking(self, handle, mode, number):
        file = os.fstat(handle).st_ino
        if file in self.held:
            raise PermissionError(13, "held")
        self.held.add(file)

sys.modules["msvcrt"] = Locks()

def unheard(self, *arguments):
    raise NotImplementedError

asyncio.SelectorEventLoop.add_signal_handler = unheard
sys.platform = "win32"
failed = []
for name in {ours!r}:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{{name}}: {{error!r}}")
assert not failed, failed

from pathlib import Path
from swarm import state
from swarm.cli import _options
from swarm.cli._census import of_process, told_on_signal
from swarm.cli.runner import Stopped, run_async
from swarm.errors import ConfigError
from swarm.service.installation import manager
from swarm.transport import light_hivemind

# Python's own loop for this system wants it.
socket.AF_UNIX = 1
assert _options.host_name()
with state.lock(Path(sys.argv[1])):
    try:
        with state.lock(Path(sys.argv[1])):
            raise SystemExit("locked twice")
    except ConfigError:
        pass
state.replace(Path(sys.argv[1]) / "file", b"content")

async def stopped():
    with told_on_signal() as census:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        await asyncio.Future()

try:
    run_async(stopped())
except Stopped as end:
    assert end.code == 128 + signal.SIGTERM
else:
    raise SystemExit("went on")
for refused in (manager, lambda: light_hivemind._defer("not_there_at_all")):
    try:
        refused()
    except ConfigError as error:
        assert "WSL2" in str(error), error
print("fine")
"""


def ours() -> list[str]:
    """Every module of ours but those that speak to libp2p's daemon, which is not for Windows."""
    names = []
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            inner = path.relative_to(ROOT / part).with_suffix("").parts
            name = ".".join(("swarm",) if part == "swarm" else ("swarm", part))
            name = ".".join((name, *inner)).removesuffix(".__init__")
            if inner[-1] != "__main__":
                names.append(name)
    return sorted(names)


def test_everything_can_be_imported_where_there_is_none_of_it(tmp_path: Path) -> None:
    code = ELSEWHERE.format(modules=MODULES, names=NAMES, ours=ours())
    command = [sys.executable, "-P", "-W", "ignore", "-c", code, str(tmp_path / "folder")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "fine"
