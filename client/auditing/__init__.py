"""Checks on what peers compute for this client: commitments, re-runs, and what follows."""
