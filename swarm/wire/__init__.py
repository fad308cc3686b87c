"""What travels between members: frames, the messages in them, and tensors as raw bytes."""
