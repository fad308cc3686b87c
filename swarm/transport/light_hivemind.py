"""Loading hivemind lightly: its networking without torch, which its packages import as they begin.

Whoever needs one of hivemind's modules asks `load` for it; nothing else imports hivemind.
"""

from __future__ import annotations

import importlib
import logging
import sys
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from swarm.errors import ConfigError

logger = logging.getLogger(__name__)

_LIGHT_NAMES = {
    "hivemind.utils.logging": ("get_logger",),
    "hivemind.utils.serializer": ("MSGPackSerializer", "SerializerBase"),
    "hivemind.utils.timed_storage": ("get_dht_time",),
}
"""What hivemind's networking takes from `hivemind.utils` itself."""


_REMEDY = (
    "it has no build for Windows: run homeswarm in WSL2 (docs/contribute.md, Windows)"
    if sys.platform == "win32"
    else "install homeswarm again"
)


def load(name: str) -> Any:
    """Imports one of hivemind's modules without torch, if hivemind is not yet loaded.

    hivemind's packages import torch as they begin, though its networking needs none of it. So they
    stand here without having run; they run when somebody asks for a name that they would define.
    """
    if "hivemind" not in sys.modules:
        for package in ("hivemind", "hivemind.utils", "hivemind.dht"):
            _defer(package)
        for module, names in _LIGHT_NAMES.items():
            for each in names:
                setattr(
                    sys.modules["hivemind.utils"],
                    each,
                    getattr(importlib.import_module(module), each),
                )
        # hivemind installs a log handler of its own; whoever runs us decides about logging.
        sys.modules["hivemind.utils.logging"].use_hivemind_log_handler("nowhere")
        verbose = logger.isEnabledFor(logging.DEBUG)
        logging.getLogger("hivemind").setLevel(logging.DEBUG if verbose else logging.CRITICAL)
        # hivemind finds its p2pd by a deprecated function; this is the same without the warning.
        vars(importlib.import_module("hivemind.p2p.p2p_daemon"))["path"] = _resource
    return importlib.import_module(name)


def _resource(package: ModuleType, name: str) -> AbstractContextManager[Path]:
    return as_file(files(package) / name)


def _defer(package: str) -> None:
    spec = find_spec(package)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{package} is not installed; {_REMEDY}")
    loader, module = spec.loader, module_from_spec(spec)

    def run(name: str) -> Any:
        # A submodule that is still being imported is no attribute of its package yet.
        if submodule := sys.modules.get(f"{package}.{name}"):
            return submodule
        if name.startswith("__") or "__getattr__" not in vars(module):
            raise AttributeError(name)
        del vars(module)["__getattr__"]
        loader.exec_module(module)
        return getattr(module, name)

    vars(module)["__getattr__"] = run
    sys.modules[package] = module
    parent, _, child = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
