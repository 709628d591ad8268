"""The parts of the live screen below its head, in the order in which they stand. Pure.

Whatever a run, a node or a worker has put into a text, nothing of it moves a cursor (`views.clean`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.text import Text

from swarmtrain.control.look.overview import RunOverview
from swarmtrain.control.look.progress import by_steps, step_parts
from swarmtrain.control.look.rows import gpu_rows, node_rows, rank_rows
from swarmtrain.control.views import ending, explanation, format, logs, narration, view
from swarmtrain.control.views.clean import clean
from swarmtrain.control.views.folding import Folded, Folding, RootCauses
from swarmtrain.protocol.replies import Line
from swarmtrain.ui.below import fitted
from swarmtrain.ui.plot.chart import charts
from swarmtrain.ui.plot.terminal import drawn
from swarmtrain.ui.top.glyphs import Glyphs, portions
from swarmtrain.ui.top.part import HEAD, Part, ending_with, listed
from swarmtrain.ui.top.tables import gpus_part, nodes_part, ranks_part
from swarmtrain.wire.plural import plural

NAMES = ("advice", "step", "loss", "nodes", "gpus", "ranks", "events", "output")
_STYLES = {
    "data": "blue",
    "forward": "green",
    "backward": "cyan",
    "communication": "yellow",
    "optimizer": "magenta",
    "other": "bright_black",
}
_TONES = {"plain": "", "good": "green", "bad": "yellow"}
_LABELS = ("cause:", "try:", "not seen:")
_RANK_STYLES = ("cyan", "green", "yellow", "magenta", "blue")
_APART = "   "
_BELOW_PLOT = 3  # rows: the axis, its numbers and its title
_LEAST_PLOT = 6  # rows, below which a line in the head says as much


def parts(overview: RunOverview, ranks: Sequence[int], width: int, glyphs: Glyphs) -> list[Part]:
    """All that there is to show, by what a person should see first.

    Args:
        ranks: of these alone; of all where it is empty.
    """
    shown = [row for row in rank_rows(overview) if not ranks or row.rank in ranks]
    nodes = {row.node for row in shown}
    found = [
        _advice(overview, width),
        _step(overview, ranks, width, glyphs),
        _loss(overview, width, glyphs),
        nodes_part([row for row in node_rows(overview) if not ranks or row.node in nodes], width),
        gpus_part([row for row in gpu_rows(overview) if not ranks or row.node in nodes], width),
        ranks_part(shown, overview.diagnosis.rank if overview.diagnosis is not None else None, width),
        _events(overview),
        _output(overview, ranks),
    ]
    return [each for each in found if each is not None and each.count]


# ---- what is wrong, and what came of it ------------------------------------------------------------------------------


def _advice(overview: RunOverview, width: int) -> Part | None:
    status, diagnosis = overview.status, overview.diagnosis
    if diagnosis is not None and explanation.is_trouble(diagnosis):
        rows = [_labelled(line) for line in explanation.advice(diagnosis, width) if line]
        rows.append(Text(f"more: swarmtrain explain {status.run}", "dim"))
        return listed("advice", "WHAT TO DO", rows, least=6, most=8)
    if status.has_ended and status.state != "failed":
        rows = [_plain(line.removeprefix("  ")) for line in ending.summary(status, 0.0)[1:]]
        return listed("advice", "WHAT CAME OF IT", rows, least=2, most=9)
    return None


def _labelled(line: str) -> Text:
    text = _plain(line)
    for label in _LABELS:
        if line.startswith(label):
            text.stylize("bold", 0, len(label))
    return text


# ---- the training ----------------------------------------------------------------------------------------------------


def _step(overview: RunOverview, ranks: Sequence[int], width: int, glyphs: Glyphs) -> Part | None:
    """Where the time of a step goes, and where that of the run went."""
    found, spent = step_parts(overview, ranks), view.time_spent(overview.status)
    head = Text("STEP", HEAD)
    if found.seconds is not None:
        of = f" of {_who(ranks)}" if ranks else ""
        head.append(f"  {format.step_time(found.seconds)}{of}  ", "not bold default")
    head.append_text(_step_bar(found.parts, width - head.cell_len, glyphs))
    rows = list(_legend(found.parts, width, glyphs)) if found.parts else []
    rows += [Text(line, "dim") for line in textwrap.wrap(spent, width)]
    return listed("step", head, rows, least=min(2, len(rows)), most=4)


def _who(ranks: Sequence[int]) -> str:
    return f"{plural(len(ranks), 'rank')} {format.ranks(ranks)}"


def _step_bar(seconds: Mapping[str, float], width: int, glyphs: Glyphs) -> Text:
    marks, line = _marks(glyphs), Text()
    for part, columns in zip(seconds, portions(list(seconds.values()), max(0, width)), strict=True):
        line.append(marks[part] * columns, _STYLES[part])
    return line


def _legend(seconds: Mapping[str, float], width: int, glyphs: Glyphs) -> Iterator[Text]:
    """What the parts of the bar are called, in as many lines as that takes."""
    marks, whole = _marks(glyphs), sum(seconds.values()) or 1.0
    facts = [
        Text.assemble((marks[part], _STYLES[part]), f" {part} {value / whole * 100:.0f} %")
        for part, value in seconds.items()
    ]
    return iter(flowing(facts, width, 3))


def _marks(glyphs: Glyphs) -> Mapping[str, str]:
    return dict(zip(_STYLES, glyphs.shades, strict=True))


def _loss(overview: RunOverview, width: int, glyphs: Glyphs) -> Part | None:
    """The curve of the loss by steps, where there is room for a plot."""
    curve = overview.curve("train/loss")
    if curve is None:
        return None
    points = by_steps(curve, max(2, width))
    found = charts([replace(curve, points=points)], "step") if len(points) > 1 else []
    if not found:
        return None
    chart = found[0]

    def draw(count: int) -> list[Text]:
        plot = max(1, count - _BELOW_PLOT)
        return [Text(line) for line in drawn(chart, width, plot, dots=glyphs.dots)[1:]]

    head = Text("LOSS", HEAD)
    head.append(f"  of rank {curve.labels.get('rank', '0')}, by steps", "not bold default")
    return Part("loss", head, 16, _LEAST_PLOT + _BELOW_PLOT, 11, draw)


# ---- what happened and what was written ------------------------------------------------------------------------------


def _events(overview: RunOverview) -> Part:
    rows = []
    for event in overview.events:
        when = logs.clock_time(event.time)[-8:]
        rows.append(
            Text.assemble((when, "dim"), " ", (narration.entry(event), _TONES[narration.tone(event)]))
        )
    return ending_with("events", "EVENTS", rows, least=2, most=5)


def _output(overview: RunOverview, ranks: Sequence[int]) -> Part:
    """The last lines, without what only echoes another rank's failure."""
    folding = Folding(RootCauses(overview.events).spares)
    found = [*folding.take(overview.lines, None), *folding.rest()]
    head = Text("OUTPUT", HEAD)
    if ranks:
        head.append(f"  of {_who(ranks)}", "not bold default")
    rows = [_said(each, overview.status.run) for each in found]
    return ending_with("output", head, rows, least=2, most=6)


def _said(each: Line | Folded, run: str) -> Text:
    if isinstance(each, Folded):
        return Text(f"({each.sentence(run)})", "dim")
    label = (f"[{each.rank}]", _RANK_STYLES[each.rank % len(_RANK_STYLES)])
    return Text.assemble(label, " ", fitted(each.text, 1000))


def _plain(text: str) -> Text:
    return Text(clean(text, colour=False))


def flowing(facts: Sequence[Text], width: int, most: int) -> list[Text]:
    """Facts side by side, in so many lines at most."""
    lines: list[Text] = []
    for fact in facts:
        if lines and lines[-1].cell_len + len(_APART) + fact.cell_len <= width:
            lines[-1].append(_APART)
            lines[-1].append_text(fact)
        elif len(lines) < most:
            lines.append(fact.copy())
    return lines


def wrapped(texts: Iterable[tuple[str, str]], width: int, most: int = 3) -> list[Text]:
    """Sentences with their styles, each in a few lines at most."""
    rows = []
    for text, style in texts:
        lines = textwrap.wrap(format.one_line(text), width, max_lines=most, placeholder=" ...")
        rows += [Text(line, style) for line in lines]
    return rows
