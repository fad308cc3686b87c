"""What `swarm doctor` looks at: one module for each subject, each of them with its checks."""
