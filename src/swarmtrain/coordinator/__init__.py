"""The coordinator: one small process a run. Standard library, protocol and wire only; part of the bundle."""
