"""The head of the live screen: what the run is, how far it is, how it trains, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from swarmtrain.control.look.overview import RunOverview, reported
from swarmtrain.control.look.progress import TrainingProgress, by_steps, in_words, progress
from swarmtrain.control.views import explanation, format, view
from swarmtrain.control.views.format import duration, number
from swarmtrain.protocol.series.table import unit_of
from swarmtrain.ui.plot.chart import said
from swarmtrain.ui.top.glyphs import Glyphs, bar, sparkline
from swarmtrain.ui.top.part import state_style
from swarmtrain.ui.top.parts import flowing, wrapped
from swarmtrain.wire.plural import counted

_MOST_VALUES = 12  # that a script reports of its own
# What stands elsewhere on the screen, or says nothing by itself.
_ELSEWHERE = (
    *("train/loss", "train/learning_rate", "train/samples", "train/samples_per_second", "train/epoch"),
    *("train/total_steps", "train/total_epochs"),
    *(
        f"train/{part}_seconds"
        for part in ("step", "data", "forward", "backward", "communication", "optimizer")
    ),
    "eval/seconds",
)


def head(
    overview: RunOverview, width: int, glyphs: Glyphs, *, facts: int = 2, curve: bool = True
) -> list[Text]:
    """Its lines, none of them empty.

    Args:
        facts: lines of them at most.
        curve: with a small curve of the loss.
    """
    lines = [_title(overview, width, glyphs)]
    found = progress(overview)
    lines += _bar(found, width, glyphs)
    lines += flowing(list(_facts(overview, found)), width, facts)
    if curve and (line := _curve(overview, width, glyphs)):
        lines.append(line)
    return [*lines, *wrapped(_news(overview), width)]


def _title(overview: RunOverview, width: int, glyphs: Glyphs) -> Text:
    status = overview.status
    state = view.state(status)
    left = Text.assemble((status.run, "bold"), "  ", (state, f"bold {state_style(state)}"))
    seconds = view.took(status, status.now or 0.0) if status.ended or status.now else None
    time = "" if seconds is None else duration(seconds)
    group = [
        counted(len({worker.node for worker in status.workers}), "node"),
        counted(status.world_size, "rank"),
    ]
    told = [*group, f"generation {status.generation}"] if status.generation else []
    dot = f" {glyphs.dot} "
    for rights in ([*told, time], [*told[:2], time], [time]):
        right = dot.join(filter(None, rights))
        if left.cell_len + 2 + len(right) <= width:
            left.append(" " * (width - left.cell_len - len(right)))
            left.append(right, "dim")
            break
    return left


def _bar(found: TrainingProgress, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """How far the training is: a bar where it has told its goal."""
    if found.step is None and found.epoch is None:
        return
    words = in_words(found)
    text = f" {glyphs.dot} ".join(words)
    if found.share is None:
        yield from flowing(list(map(Text, words)), width, 3)
        return
    share = f" {found.share * 100:.0f} %"
    room = width - len(share) - 2 - len(text)
    beside = room >= 10
    done, rest = bar(found.share, room if beside else width - len(share), glyphs)
    yield Text.assemble((done, "green"), (rest, "dim"), (share, "bold"), f"  {text}" if beside else "")
    if not beside:
        yield from flowing(list(map(Text, words)), width, 3)


def _facts(overview: RunOverview, found: TrainingProgress) -> Iterator[Text]:
    """What the training tells of itself, one fact each."""
    status, told = overview.status, reported(overview)
    loss = status.loss if status.loss is not None else told.get("train/loss")
    rate = status.lr if status.lr is not None else told.get("train/learning_rate")
    if loss is not None:
        yield _fact("loss", number(loss))
    if rate is not None:
        yield _fact("learning rate", f"{rate:.3g}")
    if found.steps_per_second is not None:
        yield Text.assemble((f"{found.steps_per_second:.3g}", "bold"), " steps/s")
    if found.samples_per_second is not None and not status.has_ended:
        yield Text.assemble((f"{found.samples_per_second:.4g}", "bold"), " samples/s")
    own = [name for name in told if name not in _ELSEWHERE]
    for name in own[:_MOST_VALUES]:
        yield _fact(name.removeprefix("train/"), said(told[name], unit_of(name)))
    if cost := view.cost(status):
        yield Text(cost, "yellow")


def _fact(name: str, value: str) -> Text:
    return Text.assemble(f"{name} ", (value, "bold"))


def _curve(overview: RunOverview, width: int, glyphs: Glyphs) -> Text | None:
    curve = overview.curve("train/loss")
    points = curve.points if curve is not None else []
    values = [point.mean for point in points if point.mean is not None]
    if curve is None or len(values) < 2:
        return None
    first, last = number(values[0]), number(values[-1])
    room = width - len(first) - len(last) - len("loss   ")
    means = [point.mean for point in by_steps(curve, max(2, room)) if point.mean is not None]
    line = sparkline(means, room, glyphs)
    if room < 8:
        return None
    return Text.assemble(("loss ", "dim"), first, " ", (line, "cyan"), " ", last)


def _news(overview: RunOverview) -> Iterator[tuple[str, str]]:
    """What a person should know first, in sentences with their styles."""
    status, diagnosis = overview.status, overview.diagnosis
    if overview.notice:
        yield overview.notice, "bold yellow"
    if not status.has_ended:
        if status.healing and (diagnosis is None or format.one_line(status.healing) not in diagnosis.verdict):
            yield f"healing: {status.healing}", "yellow"
        for sentence in view.waiting(status, status.now or 0.0):
            yield sentence, "yellow"
        for sentence in view.troubles(status):
            yield sentence, "yellow"
    if diagnosis is not None and explanation.is_trouble(diagnosis):
        yield explanation.verdict(diagnosis), "bold red" if status.state == "failed" else "bold yellow"
    elif status.reason and status.state != "succeeded":
        yield status.reason, "bold red" if status.state == "failed" else "yellow"
    elif diagnosis is not None and status.generation and not status.has_ended:
        yield explanation.verdict(diagnosis), "dim"
