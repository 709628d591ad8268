"""What is wrong with a stack file, a cluster or this machine before anything runs there."""
