"""The coordinator: one small process a run. Standard library and wire only; part of the bundle."""
