"""Which machine carries how many blocks of which model: what `swarm fit` computes and shows."""
