"""What a member tells the group of peers that it has caught, and what others tell."""

from __future__ import annotations

import asyncio
import logging

from swarm.directory import Directory, Shelf
from swarm.errors import RecordError, SwarmError

from .report import Report, against, decode_reports, encode_reports

logger = logging.getLogger(__name__)

LIFETIME = 24 * 3600.0
"""Seconds for which a report is kept, as long as the certificate that it is signed with lasts."""

_MAX_HEARD = 64
"""Peers that one member may report to us within `LIFETIME`: others' work costs somebody's time."""


class Reports:
    """Our record on the shelf of reports; `member` is our name there, whatever process we are."""

    def __init__(self, directory: Directory, member: str) -> None:
        self._directory = directory
        self._member = member
        self._own: dict[str, Report] = {}
        # By reporter: whom it has reported, and when we have heard so.
        self._heard: dict[str, dict[str, float]] = {}

    async def publish(self, report: Report) -> None:
        """Adds a report to our record; one of the same suspect is replaced."""
        self._own[report.suspect] = report
        try:
            records = await self._directory.read(Shelf.REPORTS)
            others = self._of_ours(records.get(self._member))
            record = encode_reports([*(others | self._own).values()])
            await self._directory.publish(Shelf.REPORTS, record, LIFETIME)
        except SwarmError as error:
            logger.warning("report not published suspect=%s why=%s", report.suspect, error)

    async def news(self) -> frozenset[str]:
        """Whom somebody reports of whom we have not heard that for a day.

        So one report is one reason to look closer, however often it is repeated.
        """
        now, fresh = asyncio.get_running_loop().time(), set()
        for suspect, reports in against(await self._directory.read(Shelf.REPORTS)).items():
            for reporter in reports:
                known = self._heard.get(reporter, {})
                heard = {peer: at for peer, at in known.items() if now - at < LIFETIME}
                if suspect not in heard and len(heard) < _MAX_HEARD:
                    heard[suspect] = now
                    fresh.add(suspect)
                self._heard[reporter] = heard
        return frozenset(fresh)

    def _of_ours(self, record: bytes | None) -> dict[str, Report]:
        """What other processes of ours have reported."""
        try:
            reports = decode_reports(record) if record else ()
        except RecordError:
            return {}
        return {report.suspect: report for report in reports}
