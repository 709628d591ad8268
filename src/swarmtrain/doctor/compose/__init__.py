"""`doctor --compose`: a stack that somebody wrote by hand for torchrun on a Swarm."""
