"""How many examples tests draw that look for a counterexample.

Every change is tried with the same few, so that what fails is what the change broke, and that at once. `make test-all`
draws all of them, and others each time. ``SWARMTRAIN_EXAMPLES=2000 pytest tests/unit/test_healing_properties.py`` draws
as many as that of each test in a file.
"""

from __future__ import annotations

import os

DRAW = not {"SWARMTRAIN_DRAW", "SWARMTRAIN_EXAMPLES"}.isdisjoint(os.environ)
_EACH_TIME = 5  # of how many examples one is drawn for every change
_FEWEST = 10


def examples(every: int) -> int:
    """How many are drawn now of a test that finds what it is for with ``every``."""
    told = os.environ.get("SWARMTRAIN_EXAMPLES", "")
    return int(told) if told else every if DRAW else max(_FEWEST, every // _EACH_TIME)
