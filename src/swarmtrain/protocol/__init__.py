"""What the sides say to each other, as types: agents, coordinator and clients. How it travels is in `wire`.

One version holds for all of it (`wire.names.PROTOCOL_VERSION`). Agents and coordinator tell it as they prove
themselves, clients with every request; a side of another version is refused in one sentence. It rises when something
that is said changes its meaning or is left out, or a message comes that is not an answer. A key that is only added does
not raise it, since nobody minds one that he does not know: docs/decisions/0012-typed-protocol.md.
"""
