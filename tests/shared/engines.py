"""Which Docker Engines the tests on a lab are for: as `lab up`, those that SWARMTRAIN_LAB_ENGINE names."""

from __future__ import annotations

import os

from swarmtrain.lab.releases import DEFAULT, parse

ENGINES = parse(os.environ.get("SWARMTRAIN_LAB_ENGINE", DEFAULT))
