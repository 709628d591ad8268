"""Ten faults of all kinds in one run: it ends with the weights of a run with none, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from healed import events, origins, story, weights
from healed_local import account, check_output, start

from swarmtrain.control.chaos.execution import Chaos
from swarmtrain.control.chaos.faults import Fault, FaultPlan
from swarmtrain.control.chaos.sites import place_of

EPOCHS = 50  # of nine steps
FAULTS = (
    Fault("kill-worker", "1", step=20),
    Fault("kill-container", "node1", step=60),
    Fault("kill-coordinator", "", step=100),
    Fault("stop-worker", "0", step=140, seconds=30.0),  # longer than a hang may last
    Fault("corrupt-snapshot", "node0", step=190),
    Fault("kill-worker", "0", step=195),
    Fault("power-off", "node0", step=240, seconds=1.0),
    Fault("freeze", "node1", step=290, seconds=1.0),
    Fault("kill-coordinator", "", step=330),
    Fault("kill-container", "node0", step=331),
    Fault("kill-worker", "1", step=400),
)


@pytest.mark.long
def test_ten_faults_leave_no_trace_in_the_weights(tmp_path: Path, home: Path) -> None:
    whole = start(tmp_path, "whole", epochs=EPOCHS, pause=0.0)
    whole.wait(timeout=150)
    handle = start(tmp_path, epochs=EPOCHS, restart={"hang_timeout": 2.0, "max": 20})
    report = Chaos(handle, place_of(handle), FaultPlan(FAULTS)).run()
    assert report.ok, report.failed
    assert not report.missed
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    assert weights(handle) == weights(whole)
    assert len(events(handle, "recovered")) >= 6
    assert len(events(handle, "coordinator")) == 2
    assert len(origins(handle)) >= 6
    account(home, handle).check(200)
    check_output(home, handle)
