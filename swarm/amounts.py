"""Sizes in bytes, as people read them: in decimal units, as disks and lines are sold."""

from __future__ import annotations


def gigabytes(size: float) -> str:
    """`5.2 GB`."""
    return f"{size / 1e9:.1f} GB"


def megabytes(size: float) -> str:
    """`340 MB`, `1,340 MB`: for sizes that are compared, which a larger unit would make alike."""
    return f"{size / 1e6:,.0f} MB"


def shortly(size: float) -> str:
    """In whichever of the two says it in fewer digits."""
    return gigabytes(size) if size >= 1e9 else megabytes(size)
