"""All rules, in the order in which they are asked: the first that knows a case has it.

What is said in so many words comes before what is concluded, the particular before the general, and last what nobody
knows.
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmtrain.diagnosis.rule import Rule
from swarmtrain.diagnosis.rules import (
    collectives,
    communication,
    endings,
    files,
    gpu,
    memory,
    nodes,
    people,
    placement,
    python,
    standstill,
    wellbeing,
)

# By the heading under which they are listed.
FAMILIES: Mapping[str, tuple[Rule, ...]] = {
    "Before all": wellbeing.FIRST,
    "A run that does not start": placement.RULES,
    "People, and what was done on purpose": people.RULES,
    "Memory": memory.RULES,
    "GPUs": gpu.RULES,
    "Files, disks and data": files.RULES,
    "Nodes that differ": nodes.DIFFER,
    "The program": python.RULES,
    "Communication": (*communication.RULES, *collectives.RULES),
    "Nodes": nodes.RULES,
    "Standing still": standstill.RULES,
    "The program, in general": endings.RULES,
    "Runs that live": wellbeing.LIVE,
    "Nobody knows": wellbeing.LAST,
}
RULES: tuple[Rule, ...] = tuple(rule for family in FAMILIES.values() for rule in family)
BY_CODE: Mapping[str, Rule] = {rule.code: rule for rule in RULES}
