"""One working directory in effect: what workers write is known, copied to other nodes, and in place on every node."""
