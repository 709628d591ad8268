"""What is seen of a run from inside: stacks and records of collectives."""
