"""What a profile shows, as people read it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from swarmtrain.control.look.profiling import RankProfile
from swarmtrain.control.views import format
from swarmtrain.protocol.evidence.profile import OperatorTime, ProfileNews, ProfileSummary
from swarmtrain.wire.plural import counted

_ROWS, _NAME = 12, 44  # operators that are shown, and letters of a name

_STATES = {
    "waiting": "waits for the next step",
    "warming": "warms the profiler up",
    "writing": "writes the trace",
    "written": "has written the trace",
}


def progress(rank: int, news: ProfileNews | int, steps: int) -> str:
    """How far a rank is, in a line."""
    if isinstance(news, int):
        return f"rank {rank}: {format.size(news)} of its trace have come"
    if news.state == "recording":
        return f"rank {rank}: {news.made} of {counted(steps, 'step')} recorded"
    return f"rank {rank} {_STATES.get(news.state, news.state)}"


def lines(found: RankProfile) -> list[str]:
    """Whose it is, where the time of its steps went, and its operators with the most self time."""
    summary = found.summary
    last = summary.first + summary.steps - 1
    which = f"step {last}" if summary.steps == 1 else f"steps {summary.first} to {last}"
    mean = format.step_time(summary.seconds / max(summary.steps, 1))
    told = [f"rank {found.rank} on {format.name(found.node)}: {which}, {mean} each while they were recorded"]
    if summary.early:
        told.append("  the recording ended early, as it went on for long")
    return [*told, f"  {', '.join(_shares(summary))}", "", *_table(summary), ""]


def _shares(summary: ProfileSummary) -> Iterator[str]:
    yield f"gradients travel {_percent(summary.communication_s, summary)} (in part beside computing)"
    yield f"data {_percent(summary.data_s, summary)}"
    yield f"optimizer {_percent(summary.optimizer_s, summary)}"


def _percent(seconds: float, summary: ProfileSummary) -> str:
    return f"{100 * min(seconds / summary.seconds, 1.0):.0f} %" if summary.seconds > 0 else "-"


def _table(summary: ProfileSummary) -> Iterator[str]:
    on_gpu = summary.device == "cuda"
    yield f"  {'operator':<{_NAME}}  {'calls':>7}  {'self':>9}  {'total':>9}" + (
        "        GPU" if on_gpu else ""
    )
    for each in summary.operators[:_ROWS]:
        yield _row(each, on_gpu=on_gpu)


def _row(each: OperatorTime, *, on_gpu: bool) -> str:
    name = format.name(each.name)
    name = name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."
    times = f"{format.step_time(each.self_s):>9}  {format.step_time(each.total_s):>9}"
    return f"  {name:<{_NAME}}  {each.calls:>7}  {times}" + (
        f"  {format.step_time(each.device_s):>9}" if on_gpu else ""
    )
