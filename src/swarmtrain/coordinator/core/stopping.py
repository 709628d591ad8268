"""How the workers of a generation are told to end: why, with how much grace, and whether they save. Pure.

Asked by decide.py and standstill.py.
"""

from __future__ import annotations

from swarmtrain.coordinator.core.model import Policy, Stop, View

FAILED_GRACE = 3.0  # seconds between TERM and KILL for the workers of a generation nothing comes after
RESTART_GRACE = 0.15  # the same where one does: enough for the first failure to say its word


def stop(view: View, policy: Policy) -> Stop:
    """The end of a generation's workers that fits to what is the matter."""
    if view.failed:
        if policy.restart.enabled and not view.stop_asked:
            return Stop("a rank failed", RESTART_GRACE, "kill")
        return Stop("a rank failed", FAILED_GRACE, "term")
    if view.left is not None:
        why = "every rank has left its last line of code, and not all of their processes end"
        return Stop(why, FAILED_GRACE, "term")
    why = "stopped by a person" if view.stop_asked else "a node leaves"
    return Stop(why, policy.stop_grace, "save" if view.advance.can_pause else "term")
