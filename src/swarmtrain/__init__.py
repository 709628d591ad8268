"""torchrun for Docker Swarm."""
