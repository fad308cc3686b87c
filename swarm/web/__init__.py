"""What every part that answers HTTP has in common: addresses, TLS, connections."""
