"""The store of series: nothing is lost or told twice, whenever it is killed, and it keeps to its bounds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtrain.coordinator.store.series.columns import Columns
from swarmtrain.coordinator.store.series.head import Batch, Reading
from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.coordinator.store.series.store import SeriesLimits, SeriesStore

BUSY = StreamKey("node/cpu_busy_ratio", (("node", "a"),), "a", 0)
LOSS = StreamKey("train/loss", (("rank", "0"),), "a", 1)
SMALL = SeriesLimits(head=20, shares={0: 800, 60: 1200, 600: 600})


def at_once(work: Callable[[], None]) -> None:
    work()


Open = Callable[..., SeriesStore]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the store of one place; an earlier one is left as by a coordinator that is killed."""
    stores: list[SeriesStore] = []

    def open_(limits: SeriesLimits = SMALL, place: str = "series", archive: bool = False) -> SeriesStore:
        kill(stores)
        stores.append(SeriesStore(tmp_path / place, limits=limits, beside=at_once, archive=archive))
        return stores[-1]

    yield open_
    kill(stores)


def kill(stores: list[SeriesStore]) -> None:
    for store in stores:
        for head in store._kept.heads:
            head.close()
    stores.clear()


def busy(offset: int, *values: float, every: float = 10.0) -> Batch:
    """The values of a node, one after the other; the offset is that of the last of them."""
    first = offset - len(values)
    readings = tuple(
        Reading(1000.0 + every * (first + at), None, {BUSY.name: value}) for at, value in enumerate(values)
    )
    return Batch("a#1", offset, "a", 0, BUSY.labels, readings)


def loss(offset: int, step: int, value: float, generation: int = 1) -> Batch:
    reading = Reading(1000.0 + step, step, {LOSS.name: value})
    return Batch(f"{generation}-0", offset, "a", generation, LOSS.labels, (reading,))


def test_what_was_told_is_read_in_the_order_of_time(opened: Open) -> None:
    store = opened()
    store.append(busy(3, 0.1, 0.2, 0.3))
    store.append(loss(1, 7, 2.5))
    assert store.read(BUSY) == Columns([1000.0, 1010.0, 1020.0], [-1] * 3, [0.1, 0.2, 0.3])
    assert store.read(LOSS) == Columns([1007.0], [7], [2.5])
    assert store.last() == {BUSY: (1020.0, -1, 0.3), LOSS: (1007.0, 7, 2.5)}


def test_what_is_told_again_counts_once(opened: Open) -> None:
    store = opened()
    store.append(busy(2, 0.1, 0.2))
    store.append(busy(2, 0.1, 0.2))
    store = opened()
    store.append(busy(2, 0.1, 0.2))
    assert store.read(BUSY).mean == [0.1, 0.2]


def test_a_time_that_goes_back_is_held(opened: Open) -> None:
    store = opened()
    for offset, moment in enumerate((1000.0, 999.0, 1001.0), start=1):
        store.append(Batch("a#1", offset, "a", 0, BUSY.labels, (Reading(moment, None, {BUSY.name: 1.0}),)))
    assert store.read(BUSY).time == [1000.0, 1000.0, 1001.0]


def test_what_is_not_a_number_is_kept_as_it_is_over_a_restart(opened: Open) -> None:
    values = (float("nan"), float("inf"), float("-inf"), 1.5)
    opened().append(busy(4, *values))
    assert list(map(repr, opened().read(BUSY).mean)) == ["nan", "inf", "-inf", "1.5"]
    store = opened()
    store.close()
    assert list(map(repr, opened().read(BUSY).mean)) == ["nan", "inf", "-inf", "1.5"]


_ACTS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 100).map(lambda it: it / 10), min_size=1, max_size=30),
        st.sampled_from(["killed", "closed"]),
    ),
    max_size=60,
)


@given(_ACTS)
def test_nothing_is_lost_and_nothing_counts_twice_however_often_it_is_killed(
    acts: list[list[float] | str],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stores = [SeriesStore(Path(directory), limits=SMALL, beside=at_once)]
        told: list[float] = []
        for act in acts:
            if isinstance(act, str):
                if act == "closed":
                    stores[0].close()
                kill(stores)
                stores = [SeriesStore(Path(directory), limits=SMALL, beside=at_once)]
            else:
                told += act
                stores[0].append(busy(len(told), *act))
        points, offsets, last = stores[0].read(BUSY), stores[0].offsets, stores[0].last()
        kill(stores)
    assert points.measured() == len(told) == offsets.get("a#1", 0)
    assert points.time == sorted(points.time)
    if told:
        spread = points.spread
        lows, highs = (points.mean, points.mean) if spread is None else (spread.low, spread.high)
        assert (min(lows), max(highs)) == (min(told), max(told))
        assert last[BUSY][2] == pytest.approx(points.mean[-1])


def test_older_points_are_thinned_and_the_disk_is_bounded(opened: Open, tmp_path: Path) -> None:
    limits = SeriesLimits(head=50, shares={0: 2000, 60: 2000, 600: 2000})
    store = opened(limits)
    for number in range(4000):
        store.append(busy(number + 1, number % 97 / 100))
    widths = [each.name.width for each in store._kept.segments]
    assert widths == sorted(widths, reverse=True) and set(widths) == {0, 60, 600}
    size = sum(path.stat().st_size for path in (tmp_path / "series").glob("*.series"))
    assert size <= 3 * 2000 + 1000
    points = store.read(BUSY)
    assert points.spread is not None
    gaps = [after - before for before, after in zip(points.time, points.time[1:], strict=False)]
    assert 600.0 in gaps and gaps[-1] == 10.0
    assert points.time[-1] == 1000.0 + 3999 * 10
    assert points.measured() == 4000
    assert min(points.spread.low) == 0.0 and max(points.spread.high) == 0.96


def test_where_even_the_coarsest_are_too_many_the_oldest_go(opened: Open) -> None:
    store = opened(SeriesLimits(head=20, shares={0: 500, 60: 500}))
    for number in range(3000):
        store.append(busy(number + 1, number % 7 / 10))
    points = store.read(BUSY)
    assert 0 < points.measured() < 3000 and points.time[-1] == 1000.0 + 2999 * 10


def test_a_range_is_read_without_what_lies_outside_of_it(opened: Open) -> None:
    store = opened(SeriesLimits(head=10))
    for number in range(100):
        store.append(busy(number + 1, float(number)))
    assert len(store._kept.segments) == 10
    assert len(store.read(BUSY, 1250.0, 1310.0)) < 30
    assert set(range(25, 32)) <= set(store.read(BUSY, 1250.0, 1310.0).mean)


def test_of_a_seal_that_a_kill_cut_in_two_one_half_counts(opened: Open, tmp_path: Path) -> None:
    """The segment is written, and its log is not removed yet."""
    store = opened(SeriesLimits(head=5))
    store.append(busy(4, 1.0, 2.0, 3.0, 4.0))
    log = next((tmp_path / "series").glob("*.points"))
    kept = log.read_bytes()
    store.append(busy(5, 5.0))
    log.write_bytes(kept)
    (tmp_path / "series" / "00000007-00000007-0.new").write_bytes(b"half of one")
    store = opened()
    assert store.read(BUSY).mean == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert not log.exists() and not list((tmp_path / "series").glob("*.new"))


def test_of_a_thinning_that_a_kill_cut_in_two_the_thinner_one_counts(opened: Open, tmp_path: Path) -> None:
    store = opened(SeriesLimits(head=5))
    for number in range(20):
        store.append(busy(number + 1, float(number)))
    finer = sorted((tmp_path / "series").glob("*-0.series"))
    kept = {path: path.read_bytes() for path in finer}
    store._replace(list(store._kept.segments[:2]), store._merged(list(store._kept.segments[:2]), 60))
    for path, data in kept.items():
        path.write_bytes(data)
    store = opened()
    assert store.read(BUSY).measured() == 20
    assert [each.name.width for each in store._kept.segments] == [60, 0, 0]
    assert [path.exists() for path in finer] == [False, False, True, True]


def test_a_log_whose_last_line_is_torn_is_read_up_to_it(opened: Open, tmp_path: Path) -> None:
    opened().append(busy(2, 1.0, 2.0))
    log = next((tmp_path / "series").glob("*.points"))
    with log.open("ab") as file:
        file.write(b'{"source":"a#1","off')
    store = opened()
    assert store.offsets["a#1"] == 2
    store.append(busy(3, 3.0))
    assert opened().read(BUSY).mean == [1.0, 2.0, 3.0]


def test_a_damaged_block_costs_its_points_alone(
    opened: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = opened(SeriesLimits(head=4))
    store.append(busy(2, 1.0, 2.0))
    store.append(loss(1, 1, 0.5))
    store.append(busy(4, 3.0, 4.0))
    store.append(busy(5, 5.0))
    (path,) = (tmp_path / "series").glob("*.series")
    data = bytearray(path.read_bytes())
    data[8] ^= 0xFF
    path.write_bytes(data)
    store = opened()
    assert store.read(BUSY).mean == [5.0] and store.read(LOSS).mean == [0.5]
    assert "4 points of node/cpu_busy_ratio" in capsys.readouterr().err


def test_a_damaged_file_is_passed_over_with_a_word(
    opened: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = opened(SeriesLimits(head=2))
    store.append(busy(2, 1.0, 2.0))
    store.append(busy(3, 3.0))
    (path,) = (tmp_path / "series").glob("*.series")
    path.write_bytes(path.read_bytes()[:-9])
    assert opened().read(BUSY).mean == [3.0]
    assert path.name in capsys.readouterr().err


def test_an_archive_is_read_and_left_as_it_is(opened: Open, tmp_path: Path) -> None:
    store = opened(SeriesLimits(head=5))
    for number in range(7):
        store.append(busy(number + 1, float(number)))
    before = {path: path.read_bytes() for path in (tmp_path / "series").iterdir()}
    archive = opened(archive=True)
    assert archive.read(BUSY).mean == [float(number) for number in range(7)]
    archive.append(busy(8, 8.0))
    assert archive.read(BUSY).measured() == 8
    archive.close()
    assert {path: path.read_bytes() for path in (tmp_path / "series").iterdir()} == before
    nothing = opened(place="none", archive=True)
    assert nothing.last() == {} and not (tmp_path / "none").exists()


def test_a_disk_that_takes_no_seal_keeps_its_points_in_the_log(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from swarmtrain.coordinator.store.series import segment

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = opened(SeriesLimits(head=3))
    with monkeypatch.context() as patch:
        patch.setattr(segment, "write", full)
        store.append(busy(3, 1.0, 2.0, 3.0))
        store.append(busy(4, 4.0))
    assert "could not be sealed" in capsys.readouterr().err
    assert store.read(BUSY).mean == [1.0, 2.0, 3.0, 4.0]
    store = opened(SeriesLimits(head=3))
    assert store.read(BUSY).mean == [1.0, 2.0, 3.0, 4.0]
    assert [each.blocks[BUSY].points for each in store._kept.segments] == [3]
