"""The live screen as text: whatever is known of a run, for windows of every size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from client_fakes import seen
from top_scenes import BEGAN, curve, event, failed, gpus, measured, member, running, series, worker

from swarmtrain.control.look.document import as_json
from swarmtrain.control.look.overview import RunOverview
from swarmtrain.control.look.progress import by_steps, progress, step_parts
from swarmtrain.control.look.rows import gpu_rows, node_rows, rank_rows
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.replies import Line
from swarmtrain.ui.top.frame import FrameSize, TopView, frame
from swarmtrain.ui.top.glyphs import ASCII, UNICODE, Glyphs, bar, portions, sparkline
from swarmtrain.ui.top.parts import NAMES, parts
from swarmtrain.ui.top.window import Painter

PLAIN = Painter(colour=False)


def drawn(
    overview: RunOverview,
    columns: int = 80,
    rows: int | None = 24,
    view: TopView | None = None,
    glyphs: Glyphs = UNICODE,
) -> list[str]:
    lines = frame(overview, view or TopView(), FrameSize(columns, rows), glyphs)
    if rows is not None:
        assert len(lines) == rows and all(line.cell_len <= columns for line in lines)
    return [PLAIN(line).rstrip() for line in lines]


def row_of(lines: Sequence[str], begins: str) -> str:
    return next(line for line in lines if line.startswith(begins))


STARTING = RunOverview(
    seen(state="starting", generation=0, world_size=0, workers=[], members=[], deadline=1030.0, now=1010.0)
)
SCENES = {
    "nothing yet": STARTING,
    "one rank": measured(running(1)),
    "two": measured(running()),
    "300 ranks": measured(running(300, 8)),
    "failed": failed(),
    "300 failed": failed(300),
    "gpus": replace(measured(running(16, 8)), values=(*gpus("lab-1", 8), *gpus("lab-2", 8))),
    "not measured": RunOverview(running()),
    "succeeded": measured(running(state="succeeded", ended=BEGAN + 90.0)),
}


VIEWS = (
    TopView(),
    TopView(help=True),
    TopView(typed="0,"),
    *(TopView(alone=name, moved=3) for name in NAMES),
)
SIZES = ((200, 60), (80, 24), (40, 20), (17, 10), (80, 2), (1, 1), (80, None))


@pytest.mark.parametrize("scene", SCENES)
def test_it_fits_every_window(scene: str) -> None:
    for columns, rows in SIZES:
        for glyphs in (UNICODE, ASCII):
            drawn(SCENES[scene], columns, rows, glyphs=glyphs)
    for view in VIEWS:
        drawn(SCENES[scene], 80, 24, view)
        drawn(SCENES[scene], 33, 9, view)


# ---- what stands there -----------------------------------------------------------------------------------------------


def test_a_run_in_80_columns_says_how_it_is_at_a_glance() -> None:
    lines = drawn(measured(running(4, 2)), 80, 24)
    assert (
        lines[0].startswith("digits.1  running")
        and "2 nodes · 4 ranks · generation 1 · 1 min 40 s" in lines[0]
    )
    assert "12 %  step 120 of 1000 · epoch 3 · about 7 min 20 s left" in lines[1]
    assert "loss 0.25" in lines[2] and "learning rate 0.001" in lines[2] and "2 steps/s" in lines[2]
    assert row_of(lines, "STEP").startswith("STEP  10 ms  ████")
    assert "░ communication 30 %" in "\n".join(lines)
    assert (
        " ".join(row_of(lines, "NODE").split()) == "NODE STATE RANKS CPU MEM DISK LINK RECEIVED SENT FAULTS"
    )
    assert row_of(lines, "lab-1").split()[:4] == ["lab-1", "running", "0-1", "50"]
    assert row_of(lines, "lab-1").endswith("30 %  eth0  1.5 MB/s  2 MB/s     3/s")
    assert row_of(lines, "3     ").split()[:4] == ["3", "lab-2", "running", "120"]
    assert "line 29" in lines[-2] and lines[-1].startswith("q leave  space pause")


def test_a_narrow_window_keeps_what_matters() -> None:
    lines = drawn(measured(running()), 40, 24)
    assert lines[0].startswith("digits.1  running") and lines[0].endswith("1 min 40 s")
    assert row_of(lines, "NODE").split()[:3] == ["NODE", "STATE", "CPU"]
    assert "FAULTS" in row_of(lines, "NODE") and "SENT" not in row_of(lines, "NODE")


def test_a_wide_and_high_one_has_a_plot_and_all_columns() -> None:
    lines = drawn(measured(running()), 200, 60)
    assert row_of(lines, "LOSS") and any("⡇" in line or "⠑" in line for line in lines)
    assert "ADDRESS" in row_of(lines, "NODE")
    assert not any(line.startswith("loss 1 ") for line in lines), (
        "the small curve is not shown beside the large one"
    )


def test_of_300_ranks_those_are_shown_that_a_person_should_see() -> None:
    status = running(300, 8)
    workers = list(status.workers)
    workers[211] = replace(workers[211], state="exited", exit="exit code 1")
    workers[17] = replace(workers[17], step=110)
    lines = drawn(measured(replace(status, workers=workers)), 80, 40)
    shown = [line for line in lines if line.split()[1:2] and line.split()[1].startswith("lab-")]
    assert [line.split()[0] for line in shown if line.split()[0] in ("17", "211")] == ["17", "211"]
    assert "exit code 1" in row_of(shown, "211")
    assert any(line.startswith("and 29") and "running, step 120" in line for line in lines)
    every = drawn(measured(status), 80, None)
    assert len(every) < 80, "no flood in a pipe either"


def test_the_rank_that_a_diagnosis_leads_to_comes_first() -> None:
    lines = drawn(failed(300), 80, 24)
    assert any(line.split()[:3] == ["1", "lab-2", "exited"] for line in lines)


def test_a_failed_run_keeps_its_verdict_and_what_to_do() -> None:
    lines = drawn(failed(), 80, 30)
    text = "\n".join(lines)
    assert "failed" in lines[0] and "rank 1 on lab-2 raised ValueError: no" in text
    assert "cause: an exception that nobody caught (certain)" in text
    assert "       swarmtrain logs digits.1 --rank 1 --tail 50" in lines
    assert "more: swarmtrain explain digits.1" in lines and lines[-1].endswith("ended")
    short = drawn(failed(), 80, 24)
    assert "more: swarmtrain explain digits.1" in short and row_of(short, "RANK") and row_of(short, "OUTPUT")


def test_printed_once_it_fits_its_columns_but_for_what_is_there_to_be_copied() -> None:
    assert max(map(len, drawn(measured(running(300, 8)), 80, None))) == 80
    narrow = drawn(failed(), 30, None)
    assert "       swarmtrain logs digits.1 --rank 1 --tail 50" in narrow
    assert all("swarmtrain " in line for line in narrow if len(line) > 30)


def test_what_a_run_recovers_from_is_said_once() -> None:
    lost = "lab-2 was lost with rank 1: its connection closed"
    found = measured(running(healing=lost))
    assert "healing: " + lost in drawn(found) and "digits.1  healing" in drawn(found)[0]
    known = Diagnosis(run="digits.1", code="node-lost", verdict=f"{lost}, as it seems")
    lines = drawn(replace(found, diagnosis=known))
    assert f"{lost}, as it seems" in lines and not any(line.startswith("healing: ") for line in lines)


def test_a_run_that_has_not_begun_says_what_it_waits_for() -> None:
    lines = drawn(replace(STARTING, notice="no node has the image"))
    assert "digits.1  starting" in lines[0] and "no node has the image" in lines
    assert "waiting for nodes, at most 20 s more" in lines


def test_gpus_are_shown_with_what_holds_them_back() -> None:
    hot = [*gpus("lab-1", 2), series("gpu/slowed_by_heat", 1.0, node="lab-1", gpu=1)]
    found = replace(measured(running(2, 2)), values=(*hot, *gpus("elsewhere", 1)))
    lines = drawn(found, 100, 40)
    told = " ".join(row_of(lines, "0    lab-1").split()[2:])
    assert told == "87 % 78 GB of 80 GB 71 °C 612 of 700 W 1.98 GHz"
    assert row_of(lines, "1    lab-1").endswith("heat")
    assert len(gpu_rows(found)) == 2, "a node that takes no part is left out"


def test_some_ranks_alone() -> None:
    lines = drawn(measured(running(4, 2)), 80, 40, TopView(ranks=(2, 3)))
    assert not any(line.startswith(("lab-1 ", "0  ", "1  ")) for line in lines)
    assert row_of(lines, "lab-2") and row_of(lines, "OUTPUT").endswith("of ranks 2-3")
    assert lines[-1].endswith("ranks 2-3 · " + lines[-1][-8:])
    missing = drawn(measured(running()), 80, 24, TopView(ranks=(7,)))
    assert missing[-1] == "digits.1 has no rank 7; its ranks are 0-1"


def test_a_part_alone_can_be_moved_in() -> None:
    found = measured(running(100, 8))
    first = drawn(found, 80, 24, TopView(alone="ranks"))
    moved = drawn(found, 80, 24, TopView(alone="ranks", moved=30))
    assert row_of(first[3:], "0 ") and row_of(moved[3:], "30 ") and moved[2].startswith("RANK")
    assert drawn(found, 80, 24, TopView(alone="ranks", moved=10_000))[-2].startswith("99 ")
    lines = drawn(found, 80, 12, TopView(alone="output"))
    assert lines[-2] == "[1] line 29"
    assert drawn(found, 80, 12, TopView(alone="output", moved=5))[-2] == "[0] line 24"
    assert "there is nothing of gpus yet" in drawn(found, 80, 24, TopView(alone="gpus"))


def test_what_only_echoes_a_failure_is_folded() -> None:
    echo = ["Traceback (most recent call last):", '  File "a.py", line 1, in <module>', "    all_reduce()"]
    echo.append("RuntimeError: Connection closed by peer [10.0.0.3]:1")
    lines = tuple(Line(BEGAN, 1, 0, "lab-1", text) for text in echo)
    text = "\n".join(drawn(replace(failed(), lines=lines), 200, 60))
    assert "rank 0 only echoes another rank's failure" in text and "all_reduce()" not in text


@pytest.mark.parametrize("colour", [True, False])
def test_nothing_that_a_stranger_writes_drives_the_terminal(colour: bool) -> None:
    evil = "\x1b]0;mine\x07\x1b[2Ja\u202eb\x9b31m\r\nc\x1b]52;c;aGk=\x07"
    status = running(
        reason=evil,
        healing=evil,
        snapshots_failing={evil: evil},
        members=[member(evil, [0], interface=evil, address=evil)],
        workers=[worker(0, evil, exit=evil, state=evil)],
    )
    diagnosis = Diagnosis(run="digits.1", code="unknown", verdict=evil, cause=evil, unseen=[evil])
    overview = measured(
        status,
        lines=(Line(BEGAN, 1, 0, evil, evil),),
        events=(event(1, evil), event(2, evil, evil)),
        values=(series(f"train/{evil}", 1.0, rank=0), series("gpu/busy_ratio", 1.0, node=evil, gpu=evil)),
        diagnosis=diagnosis,
        notice=evil,
    )
    paint = Painter(colour=colour)
    for part in ("", "nodes", "gpus", "ranks", "events", "output", "advice"):
        for line in frame(overview, TopView(alone=part), FrameSize(80, 50), UNICODE):
            text = paint(line)
            rest = text.replace("\x1b[0m", "")
            while (at := rest.find("\x1b[")) >= 0:
                assert colour
                end = rest.index("m", at)
                assert all(each in "0123456789;" for each in rest[at + 2 : end]), repr(text)
                rest = rest[:at] + rest[end + 1 :]
            assert rest.isprintable(), repr(text)


# ---- the foot --------------------------------------------------------------------------------------------------------


def test_the_foot_says_what_is_typed_and_that_it_is_paused() -> None:
    assert drawn(SCENES["two"], view=TopView(typed="0,2"))[-1].startswith("ranks: 0,2_")
    assert drawn(SCENES["two"], view=TopView(paused=7.2))[-1].endswith("paused for 7.2 s")
    assert (
        drawn(SCENES["two"], view=TopView(complaint="'x' is no list of ranks"))[-1]
        == "'x' is no list of ranks"
    )


# ---- what follows from what is known ---------------------------------------------------------------------------------


def test_the_pace_is_counted_over_the_last_minute_of_this_generation() -> None:
    before = [(float(at), at, 0.1) for at in range(100)]
    slow = curve("train/step_seconds", [*before, *((100.0 + at, 100 + 4 * at, 0.1) for at in range(100))])
    found = replace(measured(running()), curves=(slow,))
    assert progress(found).steps_per_second == pytest.approx(4.0)
    assert progress(found).seconds_left == pytest.approx(880 / 4.0)
    points = [*curve("", before).points, *curve("", [(1000.0, 100, 0.1), (1010.0, 120, 0.1)], 2).points]
    healed = replace(slow, points=points)
    assert progress(replace(found, curves=(healed,))).steps_per_second == pytest.approx(2.0), (
        "not over the pause"
    )
    assert progress(RunOverview(running())).steps_per_second == pytest.approx(100.0), "by the pulse alone"


def test_without_a_goal_nothing_is_foretold() -> None:
    found = progress(RunOverview(running()))
    assert (found.share, found.seconds_left, found.total_steps) == (None, None, None)
    lines = drawn(RunOverview(running()))
    assert lines[1] == "step 120   epoch 3"
    by_epochs = progress(RunOverview(running(), values=(series("train/total_epochs", 12, rank=0),)))
    assert by_epochs.share == pytest.approx(0.25) and by_epochs.seconds_left == pytest.approx(360 / 100.0)
    nonsense = progress(RunOverview(running(), values=(series("train/total_steps", -3.0, rank=0),)))
    assert (nonsense.share, nonsense.seconds_left) == (None, None)


def test_a_step_is_the_mean_of_its_ranks_with_what_nobody_names() -> None:
    found = step_parts(measured(running(3)))
    assert found.seconds == pytest.approx(0.01)
    assert list(found.parts) == ["data", "forward", "backward", "communication", "optimizer", "other"]
    assert found.parts["other"] == pytest.approx(0.0005)
    assert step_parts(RunOverview(running())).parts == {}


def test_a_link_is_that_of_the_interface_that_the_training_uses() -> None:
    (row, _) = node_rows(measured(running()))
    assert (row.receive, row.transmit, row.faults, row.swap) == (1.5e6, 2e6, 3.0, None)
    assert rank_rows(measured(running()))[0].compute == pytest.approx(0.0055)


def test_a_curve_by_steps_has_stretches_of_one_length() -> None:
    found = by_steps(curve("train/loss", [(float(at), at, float(at)) for at in range(1000)]), 10)
    assert [point.mean for point in found] == pytest.approx([49.5 + 100 * at for at in range(10)])


def test_all_of_it_as_json() -> None:
    told = json.loads(json.dumps(as_json(failed())))
    assert told["progress"]["share"] == pytest.approx(0.12) and told["diagnosis"]["rank"] == 1
    assert [each["rank"] for each in told["ranks"]] == [0, 1] and told["gpus"] == []


# ---- glyphs ----------------------------------------------------------------------------------------------------------


def test_bars_and_curves_have_the_columns_that_they_are_given() -> None:
    assert bar(0.5, 5, UNICODE) == ("━━╸", "──") and bar(7.0, 3, ASCII) == ("###", "") == bar(1.0, 3, ASCII)
    assert portions([1.0, 1.0, 1.0], 10) == [3, 4, 3] and portions([0.0], 5) == [0]
    assert (
        sparkline([0.0, 1.0, float("nan"), 2.0], 9, UNICODE) == "▁▅█" and sparkline([1.0], 9, UNICODE) == ""
    )
    assert sparkline([3.0, 3.0], 9, ASCII) == "__"


def test_an_ascii_terminal_gets_ascii() -> None:
    lines = drawn(measured(running()), 80, 40, glyphs=ASCII)
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("scene", SCENES)
def test_a_part_draws_no_more_rows_than_it_is_given(scene: str) -> None:
    for part in parts(SCENES[scene], (), 80, UNICODE):
        for count in range(min(part.least, part.count), min(part.count, 20)):
            assert len(part.draw(count)) <= count, part.name
