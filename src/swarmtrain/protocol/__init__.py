"""What the sides say to each other, as types: agents, coordinator and clients. How it travels is in `wire`."""
