"""What is to hold of the files that several nodes have written: tables, and random histories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmtrain.coordinator.core.sharing.catalog import commit, copies, newest, plan, settle
from swarmtrain.coordinator.core.sharing.decisions import LostNode, NodeFiles
from swarmtrain.protocol.shared_files import HeldVersion, Place, SetReport, SetVersion, SharedFile


def file(name: str, content: str, **more: int) -> SharedFile:
    return SharedFile(name, 1, content, 0.0, **more)


def version(number: int, fence: int = 1, path: str = "", **files: str) -> SetVersion:
    return SetVersion(path, fence, number, [file(name, content) for name, content in files.items()])


def held(known: SetVersion, *places: Place) -> HeldVersion:
    return HeldVersion(known, list(places) or ["work"] * len(known.files))


def node(
    rank: int,
    *known: HeldVersion,
    fence: int = 1,
    path: str = "",
    gone: Iterable[str] = (),
    extra: Iterable[str] = (),
    writing: bool = False,
    **changed: str,
) -> NodeFiles:
    files = [file(name, content) for name, content in changed.items()]
    report = SetReport(path, list(known), files, list(gone), list(extra), writing)
    return NodeFiles(rank, fence, {path: report})


def contents(found: SetVersion) -> dict[str, str]:
    return {each.name: each.sha256 for each in found.files}


NOTHING = NodeFiles(1, 1, {})
V1, V2 = version(1, a="x"), version(2, a="y")


@pytest.mark.parametrize(
    ("nodes", "expected", "number"),
    [
        pytest.param({"a": node(0, a="x"), "b": NOTHING}, {"a": "x"}, 1, id="the first that was written"),
        pytest.param({"a": node(0, held(V1)), "b": NOTHING}, {"a": "x"}, 1, id="what is known"),
        pytest.param(
            {"a": node(0, held(V1), a="y"), "b": NOTHING}, {"a": "y"}, 2, id="what was written anew"
        ),
        pytest.param(
            {"a": node(0, held(V1), b="z"), "b": node(1, held(V1), c="w")},
            {"a": "x", "b": "z", "c": "w"},
            2,
            id="what several have written",
        ),
        pytest.param({"a": node(1, a="x"), "b": node(0, a="y")}, {"a": "y"}, 1, id="the lowest rank's"),
        pytest.param(
            {"a": node(0, held(V2, ""), a="z", writing=True), "b": node(1, held(V2, "store"))},
            {"a": "y"},
            2,
            id="half of the next: what another node keeps",
        ),
        pytest.param(
            {"a": node(0, held(V2, ""), held(V1, "store"), a="z", writing=True), "b": node(1, held(V2, ""))},
            {"a": "x"},
            3,
            id="and where none does, the one before",
        ),
        pytest.param(
            {"a": node(0, a="x", writing=True), "b": NOTHING}, {"a": "x"}, 1, id="half, and nothing before"
        ),
        pytest.param(
            {"a": node(0, held(V1), gone=["a"]), "b": node(1, held(V1))}, {}, 2, id="what was deleted"
        ),
        pytest.param(
            {"a": node(0, held(V1), gone=["a"]), "b": node(1, held(V2))},
            {"a": "y"},
            2,
            id="unless it is another",
        ),
        pytest.param(
            {"a": node(0, held(V1), fence=1, a="old"), "b": node(1, held(version(2, 2, a="new")), fence=2)},
            {"a": "new"},
            2,
            id="a node that was away",
        ),
        pytest.param({"b": node(0, held(V2, ""))}, {}, 3, id="what went with its node"),
    ],
)
def test_what_holds(nodes: Mapping[str, NodeFiles], expected: dict[str, str], number: int) -> None:
    found = settle("", nodes)
    assert found is not None
    assert (contents(found.version), found.version.number) == (expected, number)


def test_half_a_directory_is_none_where_nothing_of_it_was_ever_whole() -> None:
    found = settle("c", {"a": node(0, path="c", model="x", writing=True), "b": NOTHING})
    assert found is not None and found.version.files == [] and found.unfinished == ("a",)


def test_a_directory_of_which_a_part_went_with_its_node_is_none() -> None:
    both = version(1, path="c", a="x", b="y")
    found = settle("c", {"a": node(0, held(both, "work", ""), path="c")})
    assert found is not None and found.version.files == [] and found.missing == ("b",)


def test_what_was_deleted_for_something_unfinished_is_not_deleted_as_long_as_somebody_has_it() -> None:
    def nodes(*, writing: bool, place: Place) -> dict[str, NodeFiles]:
        deleted = SetReport("", [held(V1, "")], [], ["a"], [], False)
        return {"a": NodeFiles(0, 1, {"": deleted}, writing), "b": node(1, held(V1, place))}

    cases: list[tuple[bool, Place, dict[str, str]]] = [
        (True, "store", {"a": "x"}),
        (True, "", {}),
        (False, "store", {}),
    ]
    for writing, place, expected in cases:
        found = settle("", nodes(writing=writing, place=place))
        assert found is not None and contents(found.version) == expected, (writing, place)
    assert commit("", nodes(writing=True, place="store")) is None


def test_what_went_with_its_node_holds_again_when_that_is_back_unless_it_was_written_anew() -> None:
    there, gone = held(version(1, a="x")), held(version(1, a="x"), "")
    without = settle("", {"b": node(1, gone)})
    assert without is not None and without.version.lost and without.version.files == []
    on = held(without.version)
    back = settle("", {"a": node(0, there), "b": node(1, on)})
    assert back is not None and contents(back.version) == {"a": "x"} and not back.version.lost
    anew = settle("", {"a": node(0, there), "b": node(1, on, fence=2, a="y")})
    assert anew is not None and contents(anew.version) == {"a": "y"}


# ---- parts of several ranks ------------------------------------------------------------------------------------------

PARTS = {"__0_0.distcp": "x0", "__1_0.distcp": "x1", ".metadata": "x"}
WHOLE = SetVersion("c", 1, 1, [file(name, content) for name, content in PARTS.items()])


def part(
    rank: int,
    wrote: Mapping[str, str],
    needs: Iterable[str],
    *known: HeldVersion,
    at: float = 0.0,
    ahead: float = 0.0,
) -> NodeFiles:
    """What one node has written of a checkpoint at a time, and which files it was written with."""
    files = [SharedFile(name, 1, content, at + ahead) for name, content in wrote.items()]
    index = ".metadata" if ".metadata" in wrote else ""
    report = SetReport("c", list(known), files, [], [], False, list(needs), index)
    return NodeFiles(rank, 1, {"c": report}, ahead=ahead)


def parts_of(epoch: str, *known: HeldVersion, index: bool = True) -> tuple[NodeFiles, NodeFiles]:
    """The parts of two nodes; the index is the first one's, if it has come to that."""
    first = {"__0_0.distcp": f"{epoch}0"} | ({".metadata": epoch} if index else {})
    needs = [".metadata", *([name for name in PARTS if name != ".metadata"] if index else [])]
    return part(0, first, needs, *known), part(1, {"__1_0.distcp": f"{epoch}1"}, [".metadata"], *known)


@pytest.mark.parametrize("ahead", [0.0, -3600.0, 3600.0])
def test_a_part_that_is_younger_than_the_index_that_names_it_is_one_of_the_next(ahead: float) -> None:
    needs = [".metadata", "__0_0.distcp", "__1_0.distcp"]
    first = part(0, {"__0_0.distcp": "x0", ".metadata": "x"}, needs, at=100.0)
    for at, expected in ((98.0, True), (104.0, False)):
        second = part(1, {"__1_0.distcp": "x1"}, [".metadata"], at=at, ahead=ahead)
        assert (commit("c", {"a": first, "b": second}) is not None) is expected, at
        found = settle("c", {"a": first, "b": second})
        assert found is not None and bool(found.version.files) is expected, at


def test_a_checkpoint_of_parts_is_a_version_when_all_parts_and_their_index_are_there() -> None:
    first, second = parts_of("x")
    found = commit("c", {"a": first, "b": second})
    assert found is not None and contents(found.version) == PARTS
    first, second = parts_of("x", index=False)
    assert commit("c", {"a": first, "b": second}) is None, "rank 0 writes its index yet"
    assert commit("c", {"a": NOTHING, "b": second}) is None, "rank 0 has not begun"
    assert commit("c", {"a": first, "b": NOTHING}) is None, "rank 1 has not begun"


def test_parts_without_the_others_are_none_whoever_is_left() -> None:
    first, second = parts_of("x")
    for left in ({"a": first}, {"b": second}):
        found = settle("c", left)
        assert found is not None and found.version.files == [] and found.unfinished == tuple(left)


def test_parts_that_are_written_over_need_a_new_index_and_that_needs_all_of_them() -> None:
    there = held(WHOLE, "store", "store", "store")
    first, second = parts_of("y", there)
    no_index, _ = parts_of("y", there, index=False)
    idle = node(1, there, path="c")
    cases: list[tuple[NodeFiles, NodeFiles, dict[str, str]]] = [
        (first, second, {"__0_0.distcp": "y0", "__1_0.distcp": "y1", ".metadata": "y"}),
        (no_index, second, PARTS),
        (first, idle, PARTS),
        (idle, second, PARTS),
    ]
    for each, other, expected in cases:
        nodes = {"a": each, "b": other}
        found, committed = settle("c", nodes), commit("c", nodes)
        assert found is not None and contents(found.version) == expected
        assert (committed is not None) is (expected != PARTS)


def test_a_part_that_was_written_again_as_it_was_holds_up_nothing_else() -> None:
    again = part(1, {"__1_0.distcp": "x1"}, [".metadata"], held(WHOLE))
    found = commit("c", {"a": node(0, held(WHOLE), path="c", log="new"), "b": again})
    assert found is not None and contents(found.version) == PARTS | {"log": "new"}


def test_nodes_that_differ_are_named_once_the_winner_is_known() -> None:
    found = settle("", {"a": node(0, a="x"), "b": node(1, a="y"), "c": node(2, a="x")})
    assert found is not None
    assert [(each.path, each.winner, each.others) for each in found.conflicts] == [("a", "a", ("b",))]


def test_a_higher_rank_does_not_win_by_being_later_in_the_same_generation() -> None:
    first = settle("", {"a": node(0, a="x"), "b": NOTHING})
    assert first is not None
    found = commit("", {"a": node(0, held(first.version)), "b": node(1, held(first.version, ""), a="y")})
    assert found is None


def test_while_workers_run_nothing_is_concluded_of_what_is_being_written() -> None:
    assert commit("", {"a": node(0, a="x"), "b": node(1, writing=True)}) is None
    assert commit("", {"a": node(0, held(V1)), "b": node(1, held(V1))}) is None
    found = commit("", {"a": node(0, held(V1), a="y"), "b": node(1, held(V1))})
    assert found is not None and found.version.number == 2


def test_nothing_is_brought_to_who_has_it() -> None:
    nodes = {"a": node(0, held(V1)), "b": node(1, held(V1, "store")), "c": NOTHING}
    found = plan(nodes, nodes)
    assert sorted(found.to_bring) == ["b", "c"]
    assert found.sources == {"x": ["a", "b"]}


def written(path: str, *ranks: int, fence: int = 1) -> SetVersion:
    """A version of which each of some ranks has written a file."""
    return SetVersion(
        path, fence, 1, [file(f"of-{rank}", f"{path} {rank}", fence=fence, rank=rank) for rank in ranks]
    )


@pytest.mark.parametrize(
    ("known", "path", "lost", "holds"),
    [
        pytest.param(
            [written("c/8", 0, 1)],
            "c/16",
            {"a": LostNode(0, 1)},
            False,
            id="it wrote a part of the one before",
        ),
        pytest.param([written("c/8", 1)], "c/16", {"a": LostNode(0, 1)}, True, id="it wrote none"),
        pytest.param([written("d/8", 1)], "c/16", {"a": LostNode(0, 1)}, False, id="nobody knows"),
        pytest.param([written("c/8", 0, 1)], "c/16", {}, True, id="nobody is lost"),
        pytest.param(
            [written("c/16", 1), written("c/8", 0)],
            "c/16",
            {"a": LostNode(0, 1)},
            True,
            id="its own version tells",
        ),
        pytest.param([written("c/8", 1)], "c/16", {"a": LostNode(0, 2)}, False, id="it was not there yet"),
        pytest.param(
            [written("c/8", 1), written("c/9", 1, fence=2)],
            "c/16",
            {"a": LostNode(0, 2)},
            True,
            id="it wrote none since it came",
        ),
        pytest.param(
            [written("c/8", 0, 1)], "", {"a": LostNode(0, 1)}, True, id="the working directory itself"
        ),
    ],
)
def test_parts_of_a_directory_are_none_where_another_may_have_gone_with_its_node(
    known: list[SetVersion], path: str, lost: dict[str, LostNode], holds: bool
) -> None:
    sets = {each.path: SetReport(each.path, [held(each)], [], [], [], False) for each in known}
    before = [held(each) for each in known if each.path == path]
    sets[path] = SetReport(path, before, [file("of-1", "new")], [], [], False)
    found = plan({"b": NodeFiles(1, 1, sets, lost=lost)}, ["b"]).decisions[path]
    assert ("new" in contents(found.version).values()) is holds
    assert found.unfinished == (() if holds else ("a",))


def test_what_a_lost_node_has_of_a_directory_that_was_given_up_is_none_either() -> None:
    known = held(written("c/8", 0, 1))
    left = SetReport("c/16", [], [file("of-1", "new")], [], [], False)
    others = SetReport("c/8", [known], [], [], [], False)
    there = NodeFiles(1, 1, {"c/8": others, "c/16": left}, lost={"a": LostNode(0, 1)})
    given_up = plan({"b": there}, ["b"]).decisions["c/16"]
    back = NodeFiles(0, 1, {"c/16": SetReport("c/16", [], [file("of-0", "new")], [], [], False)})
    there = NodeFiles(1, 1, {"c/16": SetReport("c/16", [held(given_up.version)], [], [], [], False)})
    found = settle("c/16", {"a": back, "b": there})
    assert found is not None and found.version.files == []


def test_half_a_directory_of_a_node_that_was_away_is_none_where_its_writers_are_not_all_there() -> None:
    """Others have gone on without both: they know of none that is lost."""

    def nodes(lost: dict[str, LostNode]) -> dict[str, NodeFiles]:
        left = SetReport("c/16", [], [file("of-0", "half")], [], [], False)
        away = NodeFiles(0, 1, {"c/16": left}, lost=lost)
        return {"a": away, "b": NodeFiles(0, 2, {})}

    found = settle("c/16", nodes({"c": LostNode(2, 1)}))
    assert found is not None and (found.version.files, found.unfinished) == ([], ("c",))
    assert commit("c/16", nodes({"c": LostNode(2, 1)})) is None
    whole = commit("c/16", nodes({}))
    assert whole is not None and contents(whole.version) == {"of-0": "half"}
    assert settle("c/16", nodes({})) == whole


@pytest.mark.parametrize(
    ("newer", "expected"),
    [
        pytest.param("", {"of-0": "c/8 0"}, id="which went with its node"),
        pytest.param("store", {}, id="which is there"),
    ],
)
def test_what_was_deleted_for_a_newer_one_is_back_where_that_is_not_there(
    newer: Place, expected: dict[str, str]
) -> None:
    old, deleted, new = written("c/8", 0), version(2, path="c/8"), written("c/16", 0)
    before = SetReport("c/8", [held(deleted), held(old, "store")], [], [], [], False)
    after = SetReport("c/16", [held(new, newer)], [], [], [], False)
    found = plan({"b": NodeFiles(1, 1, {"c/8": before, "c/16": after})}, ["b"])
    back = found.decisions["c/8"]
    assert contents(back.version) == expected and back.is_back is bool(expected)
    assert (back.version in found.to_bring["b"]) is bool(expected)
    again = held(back.version)
    nodes = {"b": NodeFiles(1, 2, {"c/8": SetReport("c/8", [again], [], [], [], False)})}
    assert contents(plan(nodes, ["b"]).decisions["c/8"].version) == expected, "and stays"


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param("", "c/8", id="which went with its node"),
        pytest.param("store", "c/16", id="which is there"),
    ],
)
def test_what_names_a_checkpoint_holds_where_that_is_there(
    place: Place, expected: str, is_committed: bool
) -> None:
    old, new = written("c/8", 0), written("c/16", 0)
    before, after = version(1, latest="c/8"), version(2, latest="c/16")
    known = [HeldVersion(before, ["store"], ["c/8"])]
    pointer = SetReport("", known, [file("latest", "c/16")], [], [], False, names=["c/16"])
    if is_committed:
        pointer = SetReport("", [HeldVersion(after, ["store"], ["c/16"]), *known], [], [], [], False)
    sets = {
        "": pointer,
        "c/8": SetReport("c/8", [held(old, "store")], [], [], [], False),
        "c/16": SetReport("c/16", [held(new, place)], [], [], [], False),
    }
    found = plan({"b": NodeFiles(1, 1, sets)}, ["b"]).decisions[""]
    assert contents(found.version) == {"latest": expected}
    assert found.named == (("c/16",) if expected == "c/8" else ())
    assert found.version.number > before.number


def test_what_was_deleted_elsewhere_goes() -> None:
    deleted = held(version(2))
    nodes = {"a": node(0, deleted), "b": node(1, deleted, extra=["a"])}
    assert sorted(plan(nodes, nodes).to_bring) == ["b"]


@pytest.mark.parametrize(
    ("replicas", "expected"), [(0, []), (1, ["b"]), (2, ["b", "c"]), (9, ["b", "c"]), (-1, ["b", "c"])]
)
def test_copies_go_to_as_many_others_as_were_asked_for(replicas: int, expected: list[str]) -> None:
    nodes = {"a": node(0, a="x"), "b": NOTHING, "c": NodeFiles(2, 1, {})}
    assert copies(V1, nodes, replicas) == expected


def test_a_version_of_parts_is_copied_whole_to_two_nodes() -> None:
    both = version(1, a="x", b="y")
    assert copies(both, {"a": node(0, a="x"), "b": node(1, b="y")}, 1) == ["a", "b"]


def test_the_newest_version_is_one_of_which_all_is_there() -> None:
    assert newest("", {"a": node(0, held(V2, ""), a="z"), "b": node(1, held(V1))}) is None
    assert newest("", {"a": node(0, held(V2, "store"), a="z"), "b": node(1, held(V1))}) == V2
    assert newest("", {"a": NOTHING}) is None


# ---- random histories ------------------------------------------------------------------------------------------------


class World:
    """Nodes with one set of two files that belong together: a version is whole when both have one content."""

    def __init__(self) -> None:
        self.work: dict[str, dict[str, str]] = {name: {} for name in "abc"}
        self.noted: dict[str, dict[str, str]] = {name: {} for name in "abc"}
        self.store: dict[str, set[str]] = {name: set() for name in "abc"}
        self.known: dict[str, SetVersion | None] = dict.fromkeys("abc")
        self.finished: dict[str, bool] = dict.fromkeys("abc", True)
        self.fences: dict[str, int] = dict.fromkeys("abc", 0)
        self.fence, self.epoch, self.alive = 0, 0, set("abc")

    def files(self, name: str) -> NodeFiles:
        known, work, noted = self.known[name], self.work[name], self.noted[name]
        places: list[Place] = []
        for each in known.files if known is not None else []:
            same = work.get(each.name) == each.sha256 == noted.get(each.name)
            places.append("work" if same else "store" if each.sha256 in self.store[name] else "")
        report = SetReport(
            "c",
            [HeldVersion(known, places)] if known is not None else [],
            [file(each, content) for each, content in work.items() if noted.get(each) != content],
            [each for each in noted if each not in work],
            [each for each in work if known is not None and each not in contents(known)],
            not self.finished[name],
        )
        sets = {"c": report} if report.known or report.changed or report.gone else {}
        return NodeFiles("abc".index(name), self.fences[name], sets, not self.finished[name])

    def begin(self) -> None:
        """A generation begins on all that are there."""
        nodes = {name: self.files(name) for name in sorted(self.alive)}
        best = self.newest_whole()
        found = plan(nodes, nodes)
        for name, versions in found.to_bring.items():
            for each in versions:
                for wanted in each.files:
                    assert found.sources[wanted.sha256], "it is to be had from nobody"
                self.work[name] = contents(each)
        for name in self.alive:
            if "c" in found.decisions:
                self.known[name] = found.decisions["c"].version
            self.noted[name], self.finished[name] = dict(self.work[name]), True
            self.fences[name] = self.fence + 1
        self.fence += 1
        in_place = {tuple(sorted(self.work[name].items())) for name in self.alive}
        assert len(in_place) <= 1, "nodes differ"
        (work,) = in_place or {()}
        assert len({content for _, content in work}) <= 1 and len(work) in (0, 2), f"half a set: {work}"
        if best:
            assert work and work[0][1] >= best, f"{work} is older than {best}"

    def newest_whole(self) -> str:
        """The newest version that was committed and is whole on some nodes that are there."""
        whole = ""
        for name in self.alive:
            known = self.known[name]
            if known is not None and known.files:
                content = known.files[0].sha256
                if all(self.has(each.sha256) for each in known.files):
                    whole = max(whole, content)
        return whole

    def has(self, content: str) -> bool:
        return any(content in self.store[name] or content in self.work[name].values() for name in self.alive)

    def write(self, half: bool) -> None:
        """Rank 0 writes both files, or is stopped between them."""
        writer = min(self.alive)
        self.epoch += 1
        self.work[writer]["m"] = f"{self.epoch:04d}"
        if not half:
            self.work[writer]["o"] = f"{self.epoch:04d}"
        self.finished[writer] = not half

    def commit(self, copied: bool) -> None:
        """What has come to rest becomes a version, of which perhaps a copy is made."""
        nodes = {name: self.files(name) for name in sorted(self.alive)}
        found = commit("c", nodes)
        if found is None:
            return
        for name in self.alive:
            self.known[name] = found.version
            self.noted[name] = dict(self.work[name])
        for name in copies(found.version, nodes, 1) if copied else []:
            self.store[name] = set(contents(found.version).values())


STEPS = st.lists(
    st.sampled_from(["write", "write", "commit", "copy", "half", "kill", "lose a", "lose b", "join"]),
    min_size=1,
    max_size=30,
)


@settings(max_examples=examples(300))
@given(STEPS)
def test_never_half_a_set_and_never_an_older_one_than_what_is_whole(steps: list[str]) -> None:
    world = World()
    world.begin()
    for step in steps:
        if step == "write":
            world.write(half=False)
        elif step in ("commit", "copy"):
            world.commit(copied=step == "copy")
        elif step == "half":
            world.write(half=True)
            world.begin()
        elif step == "kill":
            world.begin()
        elif step == "join":
            world.alive = set("abc")
            world.begin()
        elif len(world.alive) > 1:
            world.alive.discard(step[-1])
            world.begin()


def test_what_a_node_that_was_left_out_has_left_half_written_holds_up_nothing() -> None:
    """It has not begun the generation in which another one writes the same set."""
    known = version(1, 1, "latest", a="x", index="i")
    left = node(0, held(known, "", "work"), fence=2, path="latest", writing=True, a="half")
    writer = node(0, held(known), fence=3, path="latest", a="y", index="j")
    committed = commit("latest", {"a": left, "b": writer})
    assert committed is not None and contents(committed.version) == {"a": "y", "index": "j"}
    settled = settle("latest", {"a": left, "b": writer})
    assert settled is not None and contents(settled.version) == {"a": "y", "index": "j"}
    # But of one that takes part it counts, and of one that was lost in this very generation, too.
    taking_part = node(0, held(known, "", "work"), fence=3, path="latest", writing=True, a="half")
    assert commit("latest", {"a": taking_part, "b": writer}) is None
