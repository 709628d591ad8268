"""What Linux and a machine's devices offer, without a package."""
