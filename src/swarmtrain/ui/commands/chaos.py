"""``swarmtrain chaos``: faults on purpose. Thin: `swarmtrain.control.chaos.execution` does the work."""

from __future__ import annotations

import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarmtrain.control.client import Client
from swarmtrain.errors import ClusterError
from swarmtrain.ui import options, terminal
from swarmtrain.ui.errors import Misused

if TYPE_CHECKING:
    from swarmtrain.control.chaos.execution import Happening
    from swarmtrain.control.chaos.faults import FaultPlan
    from swarmtrain.control.chaos.sites import FaultSite
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.launchers.base import Run

_LENGTH = 600.0  # seconds of a random plan
_EVERY = 20.0
_MOST = 10_000  # faults of a random plan
_COLOURS = {"failed": terminal.RED, "fault": terminal.YELLOW, "undone": terminal.GREEN}


@click.command(short_help="Break things in a run on purpose.")
@click.option("--plan", "file", type=click.Path(path_type=Path), help="A plan of faults, in YAML.")
@click.option("--random", "is_random", is_flag=True, help="A mixed plan of what works in the run's place.")
@click.option("--only", metavar="FAULTS", help="What a random plan is made of: kill-worker,freeze.")
@click.option("--seed", type=int, help="What is random is the same for the same seed.")
@click.option("--at", metavar="WHEN", help="When: 30s from now, or 'step 120'.")
@click.option("--every", metavar="DURATION", help="Again and again, so far apart.")
@click.option(
    "--for", "length", metavar="DURATION", help="How long the fault lasts; with --random, the plan."
)
@click.option("--rank", help="The worker: its rank, or random.")
@click.option("--node", help="The node: its name, or random.")
@click.option("--leave", metavar="SIZE", help="What a full disk has left (1m).")
@click.option("--limit", metavar="SIZE", help="How much fill-disk may write (10 GB).")
@click.option("--rate", help="Of a slow link, as in 200mbit.")
@click.option("--force", is_flag=True, help="Also machines that other runs are on.")
@click.option("--dry-run", is_flag=True, help="Print the plan, which --plan reads, and do nothing.")
@options.as_json
@options.on
@options.run_name
@click.argument("fault", required=False)
@click.pass_context
def chaos(
    ctx: click.Context,
    /,
    name: str,
    fault: str | None,
    on: str | None,
    file: Path | None,
    is_random: bool,
    only: str | None,
    seed: int | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Break things in a run on purpose, to see it survive, or to see what is said when it does not.

    \b
      swarmtrain chaos train kill-worker --rank 1
      swarmtrain chaos train freeze --node lab-2 --for 10s --at 'step 120'
      swarmtrain chaos train --random --seed 7 --every 20s --for 15m
      swarmtrain chaos train --plan chaos.yaml

    Workers: kill-worker, stop-worker. Nodes: kill-container, freeze, unplug, power-off, power-on, fill-disk,
    slow-link, corrupt-snapshot. And kill-coordinator. What works depends on where the run is; what does not is
    refused before anything happens.

    \b
      # chaos.yaml
      seed: 7                                   # of everything that is random
      faults:
        - {at: step 120, do: kill-worker, rank: random}
        - {at: 30s, do: freeze, node: lab-2, for: 10s}
        - {every: 1m, do: kill-container, node: random}
        - {at: 2m, do: fill-disk, node: lab-3, leave: 1m, for: 20s}

    Times count from the start of this command, or of the run where that comes later. Each fault is written to the
    run's journal before it happens. The command ends with the plan or with the run; what lasts is undone then, and at
    Ctrl-C. Exit code 3 says that a fault could not be carried out.
    """
    given = [each for each in (fault, file, is_random or None) if each]
    if len(given) != 1:
        raise Misused(
            "give a fault, --plan or --random"
            if not given
            else "give only one of a fault, --plan and --random",
            "for example: swarmtrain chaos NAME kill-worker --rank 0",
            ctx,
        )
    handle = options.client(on).get(name)
    if file is not None:
        plan = _from_file(ctx, file, seed, flags)
    elif fault is not None:
        plan = _single(fault, seed, flags)
    else:
        plan = _random(ctx, handle, seed, only, flags, force)
    if dry_run:
        terminal.document(plan.document()) if as_json else terminal.data(plan.text().encode())
        return 0
    if not handle.is_live():
        raise ClusterError(f"{handle.id} has ended", "there is nothing left to break")
    return _carry_out(handle, _place(handle, force), plan, as_json)


def _from_file(ctx: click.Context, file: Path, seed: int | None, flags: dict[str, Any]) -> FaultPlan:
    import dataclasses

    from swarmtrain.control.chaos.plan_file import read_plan

    if extra := [key for key, value in flags.items() if value is not None]:
        raise Misused(f"--{extra[0]} does not go with --plan", "write it into the plan", ctx)
    plan = read_plan(file)
    return plan if seed is None else dataclasses.replace(plan, seed=seed)


def _single(fault: str, seed: int | None, flags: dict[str, Any]) -> FaultPlan:
    from swarmtrain.control.chaos.faults import FaultPlan
    from swarmtrain.control.chaos.plan_file import fault_from_flags

    entry = {"do": fault, **{key: value for key, value in flags.items() if key != "length"}}
    entry["for"] = flags["length"]
    return FaultPlan((fault_from_flags(entry),), _drawn(seed))


def _random(
    ctx: click.Context,
    handle: RunHandle,
    seed: int | None,
    only: str | None,
    flags: dict[str, Any],
    force: bool,
) -> FaultPlan:
    from swarmtrain.control.chaos.faults import random_plan
    from swarmtrain.control.chaos.plan_file import parse_kinds

    if extra := [key for key, value in flags.items() if value is not None and key not in ("every", "length")]:
        raise Misused(f"--{extra[0]} does not go with --random", "leave it out", ctx)
    kinds = parse_kinds(only) if only else tuple(_place(handle, force).mix)
    every = options.seconds(flags["every"]) if flags["every"] else _EVERY
    length = options.seconds(flags["length"]) if flags["length"] else _LENGTH
    if every <= 0:
        raise Misused("--every must be more than nothing", "for example --every 20s", ctx)
    if length / every > _MOST:
        raise Misused(f"that is more than {_MOST} faults", "for example --every 20s --for 15m", ctx)
    return random_plan(_drawn(seed), every, length, kinds)


def _drawn(seed: int | None) -> int:
    return random.SystemRandom().randrange(100_000) if seed is None else seed


def _place(handle: RunHandle, force: bool) -> FaultSite:
    """Where the run is; a Swarm whose Docker endpoint is a lab's is that lab."""
    from swarmtrain.control.chaos.sites import place_of

    if handle.run.on != "swarm":
        return place_of(handle)
    from swarmtrain.docker.command import Docker
    from swarmtrain.lab.chaos import LabMachines, lab_of

    lab = lab_of(Docker())
    if lab is None:
        return place_of(handle)

    def others() -> list[Run]:
        runs = [] if force else Client("swarm").runs()
        return [each.run for each in runs if each.id != handle.id and each.is_live()]

    return place_of(handle, LabMachines(lab, handle.run, others))


def _carry_out(handle: RunHandle, place: FaultSite, plan: FaultPlan, as_json: bool) -> int:
    from swarmtrain.control.chaos.execution import Chaos

    def tell(happening: Happening) -> None:
        if as_json:
            terminal.record(asdict(happening))
        else:
            _print(happening)

    work = Chaos(handle, place, plan, tell)
    work.check()
    terminal.say(f"{len(plan.faults)} planned on {handle.id}, seed {plan.seed}")
    try:
        report = work.run()
    except KeyboardInterrupt:
        terminal.say("interrupted: everything that could be undone has been")
        raise
    for fault in report.missed:
        terminal.say(f"never came: {fault.sentence()}, {fault.when()}")
    return 0 if report.ok else ClusterError.exit_code


def _print(happening: Happening) -> None:
    from swarmtrain.control.views.logs import clock_time

    step = "" if happening.step is None else f" step {happening.step}"
    text = {"failed": "could not be done: ", "skipped": "skipped: "}.get(happening.what, "") + happening.text
    painted = terminal.paint(text, _COLOURS.get(happening.what, ""), sys.stdout)
    terminal.lines([f"{clock_time(happening.t)}{step}  {painted}"])
    if happening.hint:
        terminal.hint(happening.hint)
