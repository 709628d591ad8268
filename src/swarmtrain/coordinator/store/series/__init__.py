"""Everything that is measured of a run, by name, labels and time: see store.py."""
