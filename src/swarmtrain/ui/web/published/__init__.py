"""The dashboard of one run as a service of its Swarm: what runs in its container, beside the page itself.

`launchers.swarm.published` has the service's stack, `payload.dashboard` the archive that this travels in. Besides the
standard library it needs starlette and uvicorn, and nothing that a job needs: the image knows no swarmtrain.
"""

from pathlib import Path

ENTER = Path(__file__).parent / "enter"
