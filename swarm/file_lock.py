"""A file that one process holds; the system lets go of it when the process dies."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt

    _BYTE = 1 << 30
    """Where nobody writes: what is locked there can be read by nobody else either."""

    def take(handle: int) -> None:
        """As below."""
        position = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
        finally:
            os.lseek(handle, position, os.SEEK_SET)

else:
    import fcntl

    def take(handle: int) -> None:
        """Takes an open file for as long as it is open; never waits.

        Raises `BlockingIOError` where another opening of it has it, and `OSError` where files
        cannot be locked.
        """
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
