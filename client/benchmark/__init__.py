"""Measuring a swarm, and what the machines and the network would allow at best."""
