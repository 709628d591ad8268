"""What a node measures of itself: what the kernel and the driver say, what it comes to, and where it is laid."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.agent.choices import Choices
from swarmtrain.agent.measure import proc
from swarmtrain.agent.measure.files import file_of, numbers
from swarmtrain.agent.measure.gpus import GpuReader
from swarmtrain.agent.measure.measuring import NodeMeasuring
from swarmtrain.agent.measure.reader import SampleReader
from swarmtrain.agent.measure.sample import NodeSample, has_changed, measured
from swarmtrain.agent.worker_group.tails import Tails, measured_key
from swarmtrain.protocol.series.table import NODE, unit_of
from swarmtrain.wire.metrics import parsed


def test_times_of_processors_are_read_with_those_that_a_host_took() -> None:
    text = "cpu  100 20 30 400 50 6 7 80 90 9\ncpu0 1 2 3 4\nintr 5\n"
    times = proc.cpu_times(text)
    assert times == proc.CpuTimes(busy=163, idle=400, wait=50, steal=80)
    assert proc.cpu_times("cpu  1 2 3 4\n") == proc.CpuTimes(6, 4, 0, 0)  # of a kernel of long ago
    assert proc.cpu_times("") is None


def test_a_containers_limit_is_read_in_both_versions_of_control_groups() -> None:
    assert proc.throttling("usage_usec 5\nnr_periods 40\nnr_throttled 10\nthrottled_usec 9\n") == (40, 10)
    assert proc.throttling("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n") is None
    assert proc.memory_in_use("1000\n", "anon 1\ninactive_file 300\n") == 700
    assert proc.memory_in_use("1000\n", "inactive_file 1\ntotal_inactive_file 300\n") == 700
    assert proc.memory_in_use("", "") is None
    assert [proc.limit(text) for text in ("max\n", "9223372036854771712\n", "4096\n", "")] == [
        None,
        None,
        4096,
        None,
    ]
    assert proc.own_group("12:cpu,cpuacct:/docker/a\n0::/b:c\n") == {
        "cpu": "/docker/a",
        "cpuacct": "/docker/a",
        "": "/b:c",
    }


def test_pressure_memory_and_load_are_read() -> None:
    text = "some avg10=1.00 avg60=0.50 avg300=0.10 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    assert proc.pressure(text) == 123456
    assert proc.pressure("") is None
    assert proc.meminfo("MemTotal:   2048 kB\nHugePages_Total:  0\nMemAvailable: 4 kB\n") == {
        "MemTotal": 2 << 20,
        "MemAvailable": 4096,
    }
    assert proc.load("0.52 0.58 0.59 1/467 12345\n") == 0.52


def test_of_disks_the_whole_ones_count_that_were_used() -> None:
    used = "5 0 8 40 3 0 16 90 0 100 130"
    names = [
        "sda",
        "sda1",
        "nvme0n1",
        "nvme0n1p2",
        "vdb",
        "xvda1",
        "loop0",
        "dm-0",
        "md0",
        "mmcblk0",
        "mmcblk0p1",
    ]
    text = (
        "".join(f"   8  {at} {name} {used}\n" for at, name in enumerate(names))
        + "   8  99 sdz 0 0 0 0 0 0 0 0 0 0 0\n"
    )
    found = proc.disks(text)
    assert list(found) == ["sda", "nvme0n1", "vdb", "mmcblk0"]
    assert found["sda"] == proc.DiskCounts(5, 4096, 40, 3, 8192, 90, 100)


def test_of_interfaces_the_far_ends_of_containers_do_not_count() -> None:
    text = (
        "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop ...\n"
        "  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n"
        "veth12: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n"
        " dummy: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    )
    assert proc.interfaces(text) == {"eth0": proc.InterfaceCounts(1000, 1, 2, 2000, 3, 4)}


BEFORE = NodeSample(
    moment=100.0,
    cpu=proc.CpuTimes(100, 800, 50, 50),
    throttling=proc.Throttling(10, 0),
    pressure={"cpu": 0, "io": 5_000_000},
    swapped=(0, 10),
    disks={"sda": proc.DiskCounts(10, 1000, 50, 5, 500, 20, 100)},
    interfaces={"eth0": proc.InterfaceCounts(1000, 0, 0, 1000, 0, 0)},
)
NOW = NodeSample(
    moment=110.0,
    cpu=proc.CpuTimes(160, 820, 60, 60),
    throttling=proc.Throttling(30, 5),
    pressure={"cpu": 2_500_000, "io": 5_000_000, "memory": 7},
    swapped=(100, 10),
    disks={
        "sda": proc.DiskCounts(14, 5000, 90, 5, 500, 20, 5100),
        "sdb": proc.DiskCounts(1, 1, 1, 1, 1, 1, 1),
    },
    interfaces={"eth0": proc.InterfaceCounts(13_345_670, 20, 0, 1000, 0, 0)},
    levels={"node/load": 1.23456},
)


def test_what_lies_between_two_samples_becomes_ratios_and_rates() -> None:
    assert measured(BEFORE, NOW) == {
        "node/load": 1.235,
        "node/cpu_busy_ratio": 0.6,
        "node/cpu_wait_ratio": 0.1,
        "node/cpu_steal_ratio": 0.1,
        "node/cpu_throttled_ratio": 0.25,
        "node/pressure_cpu_ratio": 0.25,
        "node/pressure_io_ratio": 0.0,
        "node/swap_in_bytes_per_second": 40960.0,
        "node/swap_out_bytes_per_second": 0.0,
        "disk/read_bytes_per_second{device=sda}": 400.0,
        "disk/write_bytes_per_second{device=sda}": 0.0,
        "disk/busy_ratio{device=sda}": 0.5,
        "disk/read_seconds{device=sda}": 0.01,
        "interface/receive_bytes_per_second{interface=eth0}": 1_334_000.0,
        "interface/transmit_bytes_per_second{interface=eth0}": 0.0,
        "interface/receive_errors_per_second{interface=eth0}": 2.0,
        "interface/receive_drops_per_second{interface=eth0}": 0.0,
        "interface/transmit_errors_per_second{interface=eth0}": 0.0,
        "interface/transmit_drops_per_second{interface=eth0}": 0.0,
    }


def test_a_counter_that_began_anew_tells_nothing_once() -> None:
    """As an interface that was taken down, or a machine whose time stood still."""
    backwards = measured(NOW, NodeSample(120.0, interfaces=BEFORE.interfaces, disks=BEFORE.disks))
    assert "interface/receive_bytes_per_second{interface=eth0}" not in backwards
    assert "disk/busy_ratio{device=sda}" not in backwards
    assert measured(NOW, NOW) == {}


def test_a_node_that_does_something_else_is_looked_at_sooner() -> None:
    calm = {
        "node/cpu_busy_ratio": 0.5,
        "interface/receive_bytes_per_second{interface=eth0}": 1e6,
        "node/load": 1.0,
    }
    assert not has_changed(calm, {**calm, "node/cpu_busy_ratio": 0.52, "node/load": 3.0})
    assert has_changed(calm, {**calm, "node/cpu_busy_ratio": 0.6})
    assert has_changed(calm, {**calm, "interface/receive_bytes_per_second{interface=eth0}": 2e6})
    assert has_changed(calm, {})


def test_this_machine_is_measured_by_names_that_the_table_has(tmp_path: Path) -> None:
    reader = SampleReader(tmp_path)
    before = reader.take()
    values = measured(before, NodeSample(**{**vars(reader.take()), "moment": before.moment + 1.0}))
    known = {each.name for each in NODE}
    assert {parsed(name)[0] for name in values} <= known
    assert {"node/cpu_busy_ratio", "node/memory_used_ratio", "node/disk_free_bytes"} <= values.keys() | {
        "node/cpu_busy_ratio"
    }
    assert 0 < values["node/memory_used_ratio"] < 1


def test_a_sample_takes_less_than_a_hundredth_of_the_time_until_the_next(tmp_path: Path) -> None:
    """Of a processor, in five seconds; on this machine it is a millisecond or two."""
    reader, took = SampleReader(tmp_path), list[float]()
    before = reader.take()
    for _ in range(10):
        began = time.thread_time()
        measured(before, reader.take())
        took.append(time.thread_time() - began)
    assert min(took) < 0.01


def test_a_machine_that_tells_nothing_is_no_trouble(tmp_path: Path) -> None:
    sample = SampleReader(tmp_path / "nowhere", root=tmp_path).take()
    assert (sample.cpu, sample.throttling, sample.pressure, sample.disks, sample.levels) == (
        None,
        None,
        {},
        {},
        {},
    )


def test_a_container_of_version_one_is_read_at_the_top_of_what_it_sees(tmp_path: Path) -> None:
    for name, text in {
        "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
        "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 8\nnr_throttled 2\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "5000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 1000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    sample = SampleReader(tmp_path / "nowhere", root=tmp_path).take()
    assert sample.throttling == (8, 2)
    assert sample.levels == {"node/container_memory_bytes": 4000, "node/container_memory_limit_bytes": 9000}


class Driver:
    """NVML's functions as the reader calls them, for GPUs that do not exist here."""

    def __init__(self, *uuids: str, missing: tuple[str, ...] = ()) -> None:
        self._uuids, self._missing = uuids, missing
        self.xids: list[tuple[int, int]] = []  # that are to be told of: a device's handle, and the number
        self._listened_to: list[int] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name.startswith("_") or name in self._missing:
            raise AttributeError(name)
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> int:
        into: Any = arguments[-1]._obj if arguments and hasattr(arguments[-1], "_obj") else None
        match name:
            case "nvmlDeviceGetCount_v2":
                into.value = len(self._uuids)
            case "nvmlDeviceGetHandleByIndex_v2":
                into.value = 1000 + arguments[0].value
            case "nvmlDeviceGetUUID":
                arguments[1].value = self._uuids[arguments[0].value - 1000].encode()
            case "nvmlDeviceGetUtilizationRates":
                into.kernels, into.memory = 93, 40
            case "nvmlDeviceGetMemoryInfo":
                into.total, into.free, into.used = 80 << 30, 60 << 30, 20 << 30
            case "nvmlDeviceGetTemperature":
                into.value = 71
            case "nvmlDeviceGetPowerUsage":
                into.value = 312_500
            case "nvmlDeviceGetEnforcedPowerLimit":
                into.value = 350_000
            case "nvmlDeviceGetClockInfo" | "nvmlDeviceGetMaxClockInfo":
                assert arguments[1].value == 1
                into.value = 1410 if "Max" not in name else 1980
            case "nvmlDeviceGetCurrentClocksThrottleReasons":
                into.value = 0x20 | 0x01
            case "nvmlDeviceGetTotalEccErrors":
                into.value = 5 if arguments[1].value == 0 else 0
            case "nvmlDeviceRegisterEvents":
                assert arguments[1].value == 8
                self._listened_to.append(arguments[0].value)
            case "nvmlEventSetWait_v2":
                assert arguments[2].value == 0  # nobody waits
                if not self.xids:
                    return 10
                event = arguments[1]._obj
                event.device, event.data = self.xids.pop(0)
                assert event.device in self._listened_to
        return 0


def test_what_the_driver_tells_of_a_gpu_is_told_in_base_units() -> None:
    assert GpuReader(library=Driver("GPU-a")).levels() == {
        "gpu/busy_ratio{gpu=0}": 0.93,
        "gpu/memory_busy_ratio{gpu=0}": 0.4,
        "gpu/memory_used_bytes{gpu=0}": 20 << 30,
        "gpu/memory_total_bytes{gpu=0}": 80 << 30,
        "gpu/temperature_celsius{gpu=0}": 71.0,
        "gpu/power_watts{gpu=0}": 312.5,
        "gpu/power_limit_watts{gpu=0}": 350.0,
        "gpu/clock_hertz{gpu=0}": 1410e6,
        "gpu/clock_limit_hertz{gpu=0}": 1980e6,
        "gpu/slowed_by_power{gpu=0}": 0.0,
        "gpu/slowed_by_heat{gpu=0}": 1.0,
        "gpu/slowed_by_hardware{gpu=0}": 0.0,
        "gpu/ecc_corrected_errors{gpu=0}": 5.0,
        "gpu/ecc_uncorrected_errors{gpu=0}": 0.0,
        "gpu/xid_errors{gpu=0}": 0.0,
    }


def test_the_faults_that_the_driver_tells_of_are_counted_by_gpu() -> None:
    driver = Driver("GPU-a", "GPU-b")
    reader = GpuReader(library=driver)
    driver.xids = [(1001, 31), (1001, 79)]
    for _ in range(2):  # they stay told
        levels = reader.levels()
        assert (levels["gpu/xid_errors{gpu=1}"], levels["gpu/last_xid{gpu=1}"]) == (2.0, 79.0)
        assert levels["gpu/xid_errors{gpu=0}"] == 0.0 and "gpu/last_xid{gpu=0}" not in levels


def test_where_faults_cannot_be_listened_to_none_are_counted() -> None:
    for missing in ("nvmlEventSetCreate", "nvmlDeviceRegisterEvents"):
        levels = GpuReader(library=Driver("GPU-a", missing=(missing,))).levels()
        assert "gpu/busy_ratio{gpu=0}" in levels and not [name for name in levels if "xid" in name]


@pytest.mark.parametrize(
    ("wanted", "seen"), [(None, "012"), (["1"], "1"), (["GPU-bb", "0"], "01"), ([], ""), (["MIG-x"], "")]
)
def test_only_the_gpus_that_workers_see_are_measured(wanted: list[str] | None, seen: str) -> None:
    levels = GpuReader(wanted, Driver("GPU-aa1", "GPU-bb2", "GPU-cc3")).levels()
    assert "".join(sorted({name[-2] for name in levels})) == seen


def test_what_an_older_driver_does_not_know_is_left_out() -> None:
    levels = GpuReader(library=Driver("GPU-a", missing=("nvmlDeviceGetTotalEccErrors",))).levels()
    assert "gpu/busy_ratio{gpu=0}" in levels and not [name for name in levels if "ecc" in name]


def test_where_there_is_no_driver_nothing_is_told() -> None:
    class Broken(Driver):
        def _call(self, name: str, *arguments: Any) -> int:
            return 9  # the driver is not loaded

    assert GpuReader(library=Broken("GPU-a")).levels() == {}
    assert ctypes.sizeof(ctypes.c_uint) == 4


@pytest.mark.parametrize("described", NODE)
def test_a_name_ends_with_its_base_unit(described: Any) -> None:
    endings = {
        "s": "_seconds",
        "B": "_bytes",
        "B/s": "_bytes_per_second",
        "1/s": "_per_second",
        "ratio": "_ratio",
    }
    endings |= {"°C": "_celsius", "W": "_watts", "Hz": "_hertz"}
    assert described.name.endswith(endings.get(described.unit, ""))
    assert unit_of(described.name) == described.unit


def test_units_of_what_a_script_reports_are_those_of_its_names_end() -> None:
    assert [unit_of(f"train/{name}") for name in ("tokens_per_second", "gpu_wait_seconds", "accuracy")] == [
        "1/s",
        "s",
        "",
    ]


# ---- where it is laid ------------------------------------------------------------------------------------------------


def measuring(directory: Path, tails: Tails) -> NodeMeasuring:
    return NodeMeasuring(directory, directory, tails, Choices(0, 1, "gloo", {}, ()), dict)


def lines(directory: Path) -> list[Mapping[str, Any]]:
    paths = sorted(directory.glob("node-*.measured"), key=lambda path: int(path.stem.split("-")[1]))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_each_sample_but_the_first_is_a_line(tmp_path: Path) -> None:
    it = measuring(tmp_path, Tails())
    for _ in range(3):
        it.measure()
    found = lines(tmp_path)
    assert len(found) == 2 and all(line["v"]["node/memory_used_ratio"] > 0 for line in found)


def test_an_agent_that_is_started_anew_begins_another_file(tmp_path: Path) -> None:
    for _ in range(2):
        it = measuring(tmp_path, Tails())
        it.measure(), it.measure()
    assert sorted(numbers(tmp_path)) == [1, 2]


def test_old_files_go_when_they_have_come_and_undelivered_ones_stay_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarmtrain.agent.measure.measuring._BYTES", 100)
    tails = Tails()
    it = measuring(tmp_path, tails)
    it.measure()
    tails.watch(measured_key(1), file_of(tmp_path, 1))
    for _ in range(70):
        it.measure()
        it._renew()
    assert len(numbers(tmp_path)) == 63  # nobody has taken anything, and the newest has no line yet
    for number in numbers(tmp_path):
        size = file_of(tmp_path, number).stat().st_size
        tails._tails[measured_key(number)].sent = size
        tails.confirm(measured_key(number), size)
    it.measure()
    it._renew()
    assert len(numbers(tmp_path)) == 8 and max(numbers(tmp_path)) == 71


def test_what_nodes_measure_is_no_sign_of_their_workers_and_keeps_no_run_from_its_end(tmp_path: Path) -> None:
    tails = Tails()
    file_of(tmp_path, 1).write_text("{}\n")
    tails.watch(measured_key(1), file_of(tmp_path, 1))
    assert tails.written() == 0 and not tails._behind()
