"""Checking each other's work: what clients and peers both need for it. See `docs/audit.md`."""
