"""Schedules that once failed, each with what was wrong; they stay."""

from __future__ import annotations

from schedule import Schedule

SEEDS: dict[str, Schedule] = {}
