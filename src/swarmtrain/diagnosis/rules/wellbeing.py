"""Runs of which nothing is wrong, or nothing that ends them; and what nobody knows."""

from __future__ import annotations

import math

from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.measures import why_slow
from swarmtrain.diagnosis.rule import Conclusion, Rule, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.journal.remarks import StragglerSeen
from swarmtrain.wire.plural import counted


def _lives(case: Case) -> bool:
    return not case.causes and not case.status.has_ended


def _loss_is_nan(case: Case) -> Conclusion | None:
    status = case.status
    loss = status.loss
    if loss is None or math.isfinite(loss) or case.causes:
        return None
    return Conclusion(
        verdict=f"{status.run} trains with a loss that is no number ({loss})",
        cause="training has diverged, or a batch holds values that are no numbers",
        sure="likely",
        remedies=[
            Remedy("Stop it: what follows is lost.", f"swarmtrain stop {status.run}"),
            Remedy("Lower the learning rate, clip gradients, or take bf16 in place of float16."),
        ],
        unseen=["At which step it became so."],
        knows_who=False,
    )


def _disk_takes_none(case: Case) -> Conclusion | None:
    status = case.status
    if not _lives(case) or not status.snapshots_failing:
        return None
    seen = [
        Observation(f"writes no snapshots: {why}", node=node)
        for node, why in sorted(status.snapshots_failing.items())
    ]
    nodes = ", ".join(sorted(status.snapshots_failing))
    return Conclusion(
        verdict=f"{status.run} trains, and {nodes} writes no snapshots",
        cause="its disk does not take them",
        sure="certain",
        seen=seen,
        remedies=[
            Remedy(
                "What is full?",
                f"swarmtrain exec {status.run} {sorted(status.snapshots_failing)[0]} -- df -h",
            )
        ],
        knows_who=False,
    )


def _straggler(case: Case) -> Conclusion | None:
    told = [each for each in case.of_kind(StragglerSeen) if each.rank is not None]
    if not _lives(case) or not told:
        return None
    last = told[-1]
    slow = Failure("hang", last.node, last.time, last.text.removeprefix(f"{last.node}: "), last.rank)
    nodes = {worker.rank: worker.node for worker in case.status.workers}
    why = why_slow(last.rank, nodes, case.paces, case.measures) if last.rank is not None else None
    return Conclusion(
        verdict=f"{who(slow)} slows the others down",
        cause=why.why if why is not None else slow.summary,
        sure="likely" if why is not None else "certain",
        failure=slow,
        seen=[Observation(each, slow.rank, slow.node) for each in (slow.summary, *why.seen)]
        if why is not None
        else [],
        remedies=[
            Remedy(
                "What else runs there?",
                f"swarmtrain exec {case.status.run} {last.node} -- ps -eo pcpu,args --sort=-pcpu",
            ),
            Remedy("Has it fewer processors, a hot GPU, or more data than the others?"),
        ],
        unseen=[] if why is not None else ["Why its work takes longer."],
    )


def _healthy(case: Case) -> Conclusion | None:
    status = case.status
    if not _lives(case) or status.state not in ("running", "stopping"):
        return None
    seen = [
        Observation(
            f"{counted(len(status.workers), 'rank')} on {counted(_nodes(case), 'node')}, in generation "
            f"{status.generation}: none has failed"
        )
    ]
    if status.step is not None:
        seen.append(Observation(f"the newest step is {status.step}"))
    seen += [Observation(f"it went on: {each.text}", time=each.time) for each in status.recoveries[-3:]]
    return Conclusion(
        verdict=f"{status.run} is {status.state}, and nothing is wrong that can be seen",
        cause="",
        sure="unknown",
        seen=seen,
        unseen=[]
        if status.step is not None
        else ["Whether it gets on: nobody counts the steps of this script."],
        knows_who=False,
    )


def _nodes(case: Case) -> int:
    return len({worker.node for worker in case.status.workers})


def _starting(case: Case) -> Conclusion | None:
    status = case.status
    if not _lives(case):
        return None
    here = [each for each in status.members if each.state in ("joined", "running")]
    seen = [Observation(f"{each.state}", node=each.node) for each in status.members]
    wanted = f" of {status.nodes.least}" if status.nodes is not None else ""
    return Conclusion(
        verdict=f"{status.run} is starting: {len(here)}{wanted} nodes are there",
        cause="",
        sure="unknown",
        seen=seen,
        remedies=[Remedy("What has happened so far?", f"swarmtrain events {status.run}")],
        knows_who=False,
    )


def _succeeded(case: Case) -> Conclusion | None:
    status = case.status
    if status.state != "succeeded":
        return None
    seen = [Observation(f"it went on: {each.text}", time=each.time) for each in status.recoveries[-3:]]
    return Conclusion(verdict=f"{status.run} succeeded", cause="", sure="unknown", seen=seen, knows_who=False)


def _orphaned(case: Case) -> Conclusion | None:
    status = case.status
    if "nobody knows how it ended" not in status.reason and "its start was cut off" not in status.reason:
        return None
    return Conclusion(
        verdict=f"{status.run}: {status.reason}",
        cause="everything of the run was ended at once: this machine was switched off, or its processes were "
        "killed",
        sure="likely",
        remedies=[Remedy("Go on from its snapshots.", "swarmtrain run --resume")],
        unseen=["How it ended: its coordinator could not write that down."],
        knows_who=False,
    )


def _unknown(case: Case) -> Conclusion | None:
    status, failure = case.status, case.first
    what = failure.sentence() if failure is not None else status.reason or "no reason is known"
    return Conclusion(
        verdict=f"{status.run} {status.state}: {what}",
        cause="no rule knows this",
        sure="unknown",
        failure=failure,
        remedies=[
            Remedy("What happened?", f"swarmtrain events {status.run}"),
            Remedy("What did its workers write?", f"swarmtrain logs {status.run} --tail 50"),
        ],
        knows_who=failure is not None,
    )


FIRST = (
    Rule(
        code="succeeded",
        title="The run has succeeded",
        about="Every rank ended with its work done. What it was healed from is told.",
        look=_succeeded,
        test="test_a_run_that_lives_is_explained",
    ),
    Rule(
        code="coordinator-gone",
        title="A run ended without a word",
        about="Its coordinator, which writes the journal, was killed with everything else, so the journal has "
        "no end.",
        look=_orphaned,
        test="test_a_run_that_lives_is_explained",
    ),
)
LIVE = (
    Rule(
        code="nan-loss-live",
        title="The loss of a live run is not a number",
        about="Rank 0 reports a loss that is NaN or infinite, and trains on.",
        look=_loss_is_nan,
        test="test_a_run_that_lives_is_explained",
    ),
    Rule(
        code="snapshots-failing",
        title="A node writes no snapshots",
        about="The training goes on; a failure now would cost what was trained since the last snapshot.",
        look=_disk_takes_none,
        test="test_a_run_that_lives_is_explained",
    ),
    Rule(
        code="slow-rank",
        title="A rank slows the others down",
        about="Its own work takes more than 1.5 times as long as that of the others, over at least 20 steps, "
        "and more than a fifth of a step. In data-parallel training all wait for the slowest. Where the series "
        "(`swarmtrain metrics`) show what differs, that is named: waiting for data, a slow disk, computing, a GPU "
        "that is slowed by heat, processors that are taken away or busy.",
        look=_straggler,
        test="test_a_run_that_lives_is_explained",
    ),
    Rule(
        code="healthy",
        title="Nothing is wrong that can be seen",
        about="No rank has failed, no node is lost, and steps are made, as far as they can be counted.",
        look=_healthy,
        test="test_a_run_that_lives_is_explained",
    ),
    Rule(
        code="starting",
        title="The run has not begun yet",
        about="It waits for its nodes.",
        look=_starting,
        test="test_a_run_that_lives_is_explained",
    ),
)
LAST = (
    Rule(
        code="unknown",
        title="No rule knows what it is",
        about="The evidence is all that there is. Nothing is guessed.",
        look=_unknown,
        test="test_what_no_rule_knows_stays_unknown_with_the_evidence",
    ),
)
