"""The page of all kinds of faults, docs/diagnosis.md, made of the rules themselves. `ui.made.pages` writes it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from swarmtrain.diagnosis.rule import Rule
from swarmtrain.diagnosis.table import FAMILIES

_WIDTH = 120
_TESTS = "tests/unit/test_diagnosis.py"
_INTRODUCTION = """\
# What is wrong with a run

Made of the rules in `src/swarmtrain/diagnosis` by `make docs`.

`swarmtrain explain train` says what is wrong with a run: while it runs, when it has failed, and also of one that never
got to its place. The end of a failed run, and `swarmtrain status`, say the same in short.

```
$ swarmtrain explain train
rank 1 on node1 raised ValueError: shard 7 is damaged
  since 14:02:11, at step 5

  rank 1 on node1  14:02:11  train.py:97 in fail
    ValueError: shard 7 is damaged
  rank 0 lost touch with another rank, 0.1 s later

cause: an exception that nobody caught, at train.py:97 in fail (certain)

try: Read what it wrote before.
       swarmtrain logs train.1 --rank 1 --tail 50
     Mend it, then go on.
       swarmtrain run --resume
```

| part | is |
|---|---|
| the first line | the verdict: who, and what. It says what was seen, and no more |
| below it | the evidence, each with its rank, node, time and line of the source, where they are known |
| `cause:` | why it is so, and how sure that is: `certain` (somebody said so), `likely`, `possible`, or not sure |
| `try:` | what may help, the most promising first, with commands to copy |
| `not seen:` | what nobody could see, so that you know where to look yourself |

When one rank dies the others follow, and their errors are longer and louder: those are taken for echoes, and told in
one line. What no rule knows stays `unknown`, with the evidence; nothing is guessed.

`--json` prints it for programs, `RunHandle.explain()` returns it. `swarmtrain explain oom-gpu` tells of a kind. They
are listed here in the order in which they are asked. A kind that was produced for real names its faults, which
`tests/unit/test_diagnosis.py` holds the rule to as they were recorded, and `benchmarks/diagnose.py` produces again.
The others were not produced there: their words, of libraries, of Docker and of swarmtrain, were read.
"""


def kinds() -> str:
    """The whole page as Markdown."""
    return "\n".join([_INTRODUCTION, *(line for name in FAMILIES for line in _family(name))])


def _family(name: str) -> Iterator[str]:
    yield f"## {name}\n"
    for rule in FAMILIES[name]:
        yield f"### {rule.code}\n"
        yield textwrap.fill(f"**{rule.title}.** {rule.about}", _WIDTH, break_on_hyphens=False) + "\n"
        yield f"{_shown(rule)}\n"


def _shown(rule: Rule) -> str:
    if rule.produced:
        return f"Produced by: {', '.join(f'`{each}`' for each in rule.produced)}."
    return f"*Not produced by the benchmark; held by* `{_TESTS}::{rule.test}`."
