"""What all parts tell Prometheus alike: labels that stay few, links, this process.

Each part has its own metrics beside its own code; see docs/observing.md.
"""
