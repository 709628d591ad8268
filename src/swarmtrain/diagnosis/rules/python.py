"""Mistakes of a program that its words give away."""

from __future__ import annotations

import re

from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.rule import Conclusion, Help, Rule, Words, by_words
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy

_USAGE = re.compile(r"^usage: ", re.MULTILINE | re.IGNORECASE)
_WRONG = re.compile(r"^(?P<program>\S+): error: (?P<what>.+)$", re.MULTILINE)


def _usage(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.code != 2 or failure.kind not in ("exit", "exception"):
        return None
    lines = "\n".join(failure.log or case.lines.get(failure.rank or 0, ()))
    error = _WRONG.search(lines)
    if not _USAGE.search(lines):
        return None  # others end with 2, too
    what = error["what"] if error else "it printed its usage"
    script = f"{case.status.target} {' '.join(case.status.args)}".strip()
    return Conclusion(
        verdict=f"the script refuses its arguments: {what}",
        cause="the script was called with arguments that it does not take",
        sure="certain" if error else "likely",
        failure=failure,
        seen=[Observation(f"it was called as: {script}")],
        remedies=[
            Remedy("What does it take?", f"python {case.status.target} --help"),
            Remedy("Flags of swarmtrain stand before the script, its own behind it."),
        ],
    )


RULES = (
    Rule(
        code="wrong-arguments",
        title="The script was called wrongly",
        about="argparse, click and fire end with 2 and print their usage. What stands before the script is "
        "swarmtrain's, what stands behind it the script's.",
        look=_usage,
        produced=("usage",),
    ),
    by_words(
        "missing-module",
        "A module is not installed",
        Words(
            pattern=r"ModuleNotFoundError: No module named '(?P<module>[^']+)'",
            verdict="{who} has no module {module}",
            cause="the Python that runs there does not find {module}: it is not installed in its image or "
            "environment, or it is a file of yours that was not sent",
            help=(
                Help("Is it a file of yours? See what is sent.", "swarmtrain run --dry-run {target}"),
                Help(
                    "Else install it into the image (its Dockerfile), or, on this machine, into the "
                    "environment that swarmtrain runs in."
                ),
            ),
        ),
        "On local, workers run with the Python that swarmtrain runs with, or the one that `python:` names. In "
        "containers it is the image's. A package's name on PyPI may differ from that of its module (cv2 is "
        "opencv-python).",
        ("missing_module",),
    ),
    by_words(
        "broken-import",
        "An import fails",
        Words(
            pattern=r"ImportError: (?P<what>cannot import name [^\n]+"
            r"|[^\n]*(?:undefined symbol|shared object file|GLIBC)[^\n]*)",
            verdict="{who} could not import: {what}",
            cause="the module is there, and is of another version than the script expects, or is built for "
            "another system",
            sure="likely",
            help=(
                Help("Which versions are there?", "{there}python3 -m pip list"),
                Help(
                    "A file of yours with the name of a library hides it: rename torch.py, random.py and the "
                    "like."
                ),
            ),
        ),
        "`cannot import name`: another version of a library, or a file of yours with its name. `cannot open "
        "shared object`, `undefined symbol`, `GLIBC`: native code that was built against something else.",
        ("missing_name",),
    ),
    by_words(
        "state-mismatch",
        "A checkpoint is of another model",
        Words(
            pattern=r"Error\(s\) in loading state_dict for (?P<model>\w+)|size mismatch for [^\n]+"
            r"|loaded state dict (?:contains|has) [^\n]+",
            verdict="{who} loaded a checkpoint that does not fit {model}",
            cause="the weights in the file are of a model, or an optimizer, of another shape than the one of "
            "this run",
            help=(
                Help(
                    "Was the model changed since? Start anew: a run of another name has directories of its "
                    "own.",
                    "swarmtrain run --name {job}-2 ...",
                ),
                Help(
                    "Saved from DistributedDataParallel, names begin with `module.`: save "
                    "model.module.state_dict()."
                ),
            ),
        ),
        "With --resume a run goes on in the directories of the one before, and finds its files. What was "
        "saved by a model of another size cannot be loaded.",
        ("state_mismatch",),
    ),
    by_words(
        "nan-loss",
        "The loss is not a number",
        Words(
            pattern=r"\bloss\b(?: at step \d+)?(?: is| was| became|:| ?=)*\s*(?:nan|[-+]?inf|not finite|non-finite)\b"
            r"|\b(?:nan|non-finite|not finite) (?:\w+ )?loss\b|returned nan values in its",
            verdict="{who} stopped because its loss, or a gradient, is no number",
            cause="training has diverged, or a batch holds values that are no numbers",
            sure="likely",
            help=(
                Help("Lower the learning rate, or let it rise slowly (warm-up)."),
                Help("Clip gradients: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)."),
                Help(
                    "In float16 use a GradScaler, or take bf16. torch.autograd.set_detect_anomaly(True) names "
                    "the operation."
                ),
            ),
            unseen=("Whether the data or the optimization is at fault.",),
        ),
        "A division by zero, the logarithm of zero, or numbers that grew beyond what the type holds. If it "
        "comes at the same step again it is a batch; if it comes after a rise of the loss it is the learning "
        "rate.",
        ("nan_loss",),
    ),
)
