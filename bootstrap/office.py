"""The office: what makes a folder that of an authority, and what is missing when it is not.

    group.key   the group's private key; only where the group was founded
    identity    the key of this bootstrap, which is its peer id
    ledger      members and invites (`ledger`)
    authority   whose authority it is: the group, and the certificate that says so

A folder is never filled up silently where something was lost: a new key would be a new group, and
a new ledger would have forgotten who was thrown out. Files are written in the order above, so that
a first start that was interrupted goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from swarm import identity, state
from swarm.errors import ConfigError, MembershipError
from swarm.group import Group
from swarm.membership.certificate import (
    CLOCK_TOLERANCE,
    ROLES,
    Certificate,
    Role,
    Standing,
    examine,
    issue,
)

from . import group_file
from .group_file import GROUP_FILE, GroupKey
from .ledger import Ledger

logger = logging.getLogger(__name__)

IDENTITY_FILE = "identity"
AUTHORITY_FILE = "authority"
LEDGER_FILE = "ledger"

AUTHORITY_LIFETIME = 10 * 365 * 86400.0
"""Seconds for which an authority is one. It ends earlier by being revoked."""

MAX_ABOVE = 3
"""Authorities one above the other, the group's key included, that can certify yet another."""

NAME = "bootstrap"
"""What an authority is called where it is not told another name."""

Clock = Callable[[], float]


class _Content(msgspec.Struct, frozen=True):
    group: str
    credential: bytes
    name: str = ""


@dataclass(frozen=True)
class Office:
    """An authority of a group: its keys, and the credential that makes it one."""

    group: Group
    me: identity.Identity
    credential: bytes
    standing: Standing

    @property
    def may_deputize(self) -> bool:
        """Whether it can certify another authority.

        A credential has at most six certificates; an authority's member's process has three more
        than we have.
        """
        return len(self.standing.issuers) <= MAX_ABOVE


def found(folder: Path, name: str | None, clock: Clock) -> Office:
    """The authority of this folder; in an empty folder, the first one of a new group.

    `name` names the group, if it was founded here. Raises `ConfigError` on files that are damaged,
    or missing where there were some.
    """
    group_key = group_file.load(folder)
    if group_key is None:
        if (folder / AUTHORITY_FILE).exists():
            return _deputy(folder, name)
        if left := _first_of(folder, IDENTITY_FILE, LEDGER_FILE):
            raise ConfigError(_lost(folder / GROUP_FILE, left))
        group_key = group_file.create(folder, name or "")
    elif name is not None and name != group_key.group.name:
        group_key = group_file.rename(folder, group_key, name)
    return _founder(folder, group_key, clock)


def reopen(folder: Path) -> Office:
    """The authority of a folder in which a bootstrap has run; makes nothing.

    Raises `ConfigError` where something is damaged or missing.
    """
    content, me = _read(folder / AUTHORITY_FILE), identity.load(folder / IDENTITY_FILE)
    if content is None or me is None:
        raise ConfigError(
            f"{folder} is no bootstrap's folder yet; start one first: swarm bootstrap --dir"
            f" {folder}"
        )
    office = _office(folder, content, me)
    if office.standing.issuers == {office.group.key} and group_file.load(folder) is None:
        raise ConfigError(_lost(folder / GROUP_FILE, folder / AUTHORITY_FILE))
    return office


def deputize(folder: Path, group: Group, credential: bytes) -> Office:
    """Makes this folder's identity what the credential of an authority says, and keeps it."""
    me = identity.load(folder / IDENTITY_FILE)
    if me is None:
        raise ConfigError(f"{folder / IDENTITY_FILE} is missing")
    content = _Content(group.key, credential, group.name)
    office = _office(folder, content, me)
    if not (folder / LEDGER_FILE).exists():
        Ledger.create(folder / LEDGER_FILE, group)
    _write(folder, content)
    return office


def applicant(folder: Path, group: Group) -> identity.Identity | None:
    """Who is to become an authority of this group, in a new folder; None if it is one already.

    Raises `ConfigError` if the folder belongs to something else.
    """
    content = _read(folder / AUTHORITY_FILE)
    ours = group_file.load(folder)
    if ours is not None or (content is not None and content.group != group.key):
        raise ConfigError(f"{folder} belongs to a group already; take another folder to join one")
    if content is not None:
        return None
    return identity.load_or_create(folder / IDENTITY_FILE)


def open_ledger(folder: Path, group: Group, clock: Clock) -> Ledger:
    """The folder's ledger, which must be there; raises `ConfigError`."""
    path = folder / LEDGER_FILE
    if not path.exists():
        raise ConfigError(
            f"{path} is missing: it knows who was removed from the group; restore it from a copy."
            f" To begin an empty one all the same, delete {folder / AUTHORITY_FILE}"
        )
    return Ledger(path, group, clock)


def _founder(folder: Path, group_key: GroupKey, clock: Clock) -> Office:
    group, now = group_key.group, clock()
    content = _read(folder / AUTHORITY_FILE)
    me = identity.load(folder / IDENTITY_FILE)
    if me is None:
        if content is not None:
            logger.warning("identity lost, a new one is made: invites from before lead nowhere")
        me = identity.create(folder / IDENTITY_FILE)
    if content is None and not (folder / LEDGER_FILE).exists():
        Ledger.create(folder / LEDGER_FILE, group)
    try:
        standing = examine(content.credential, group, me.verifies) if content else None
    except MembershipError as error:
        logger.warning("authority's certificate made again why=%s", error)
        standing = None
    if content is None or standing is None or not _is_good(standing, me, now):
        roles = ROLES[Role.AUTHORITY]
        expires = now + AUTHORITY_LIFETIME
        certificate = Certificate(me.peer_id, group.key, NAME, roles, now, expires)
        content = _Content(group.key, issue(certificate, group, group_key.sign), group.name)
        _write(folder, content)
    elif content.name != group.name:
        content = _Content(group.key, content.credential, group.name)
        _write(folder, content)
    return _office(folder, content, me)


def _deputy(folder: Path, name: str | None) -> Office:
    content, me = _read(folder / AUTHORITY_FILE), identity.load(folder / IDENTITY_FILE)
    assert content is not None
    if me is None:
        raise ConfigError(
            f"{folder / IDENTITY_FILE} is missing; restore it, or join with a new invite in another"
            " folder"
        )
    office = _office(folder, content, me)
    if office.standing.issuers == {office.group.key}:
        raise ConfigError(_lost(folder / GROUP_FILE, folder / AUTHORITY_FILE))
    if name is not None and name != office.group.name:
        raise ConfigError("a group is named by the bootstrap that has founded it")
    return office


def _is_good(standing: Standing, me: identity.Identity, now: float) -> bool:
    """Whether a certificate is ours, and neither near its end nor from a clock that was ahead."""
    near_end = standing.expires < now + AUTHORITY_LIFETIME / 2
    return standing.peer == me.peer_id and standing.begins <= now + CLOCK_TOLERANCE and not near_end


def _office(folder: Path, content: _Content, me: identity.Identity) -> Office:
    group = Group(content.group, content.name)
    path = folder / AUTHORITY_FILE
    try:
        standing = examine(content.credential, group, me.verifies)
    except MembershipError as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it from a copy") from error
    if standing.peer != me.peer_id:
        raise ConfigError(f"{path} is not of this {IDENTITY_FILE}; restore both from a copy")
    if standing.member != me.peer_id or not standing.may(Role.AUTHORITY):
        raise ConfigError("a bootstrap can only join a group with an invite of role authority")
    return Office(group, me, content.credential, standing)


def _read(path: Path) -> _Content | None:
    content = state.read(path)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged; restore it from a copy") from error


def _write(folder: Path, content: _Content) -> None:
    state.replace(folder / AUTHORITY_FILE, msgspec.json.encode(content) + b"\n")


def _first_of(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _lost(path: Path, left: Path) -> str:
    return (
        f"{path} is missing, though {left} is there; restore it, or take another folder for a new"
        " group (one that was to join a group: give its invite again)"
    )
