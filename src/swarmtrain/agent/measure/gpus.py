"""What NVIDIA's driver tells of a node's GPUs, by its library NVML and ctypes; nothing where there is none.

It touches no device as CUDA does: no memory is taken, and workers may fork. Source: the NVML API reference, r550.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

_LIBRARY = "libnvidia-ml.so.1"
_CHIP, _MULTIPROCESSORS = 0, 1  # of temperatures, and of clocks
_CORRECTED, _UNCORRECTED, _SINCE_START = 0, 1, 0  # of ECC errors
_MEGA, _MILLI = 1e6, 1e-3
_UUID_BYTES = 96
_XID_ERRORS = 0x08  # of the kinds of events
# Of the reasons for which clocks are low.
_SLOWED = {"power": 0x04, "heat": 0x20 | 0x40, "hardware": 0x08 | 0x80}


class _Utilization(ctypes.Structure):
    """Percent of the last second or less."""

    kernels: int
    memory: int
    _fields_ = [("kernels", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    """Bytes."""

    total: int
    free: int
    used: int
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Event(ctypes.Structure):
    """What the driver tells of a device: here only Xid errors, whose number is the data."""

    device: int | None
    data: int
    _fields_ = [
        ("device", ctypes.c_void_p),
        ("kind", ctypes.c_ulonglong),
        ("data", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


_T = TypeVar("_T", _Utilization, _Memory, _Event, ctypes.c_uint, ctypes.c_ulonglong)


class NvmlLibrary(Protocol):
    """The library: functions by name, which return 0 where all is well."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        """A function."""
        ...


def loaded() -> NvmlLibrary | None:
    """The driver's library; None where there is none."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


class GpuReader:
    """Reads the GPUs of one node.

    Args:
        wanted: indices or UUIDs, or what these begin with, of those that this node sees; all where it is None.
        library: by default the driver's, if there is one.
    """

    def __init__(self, wanted: Sequence[str] | None = None, library: NvmlLibrary | None = None) -> None:
        self._library = library or loaded()
        self._devices: list[tuple[int, ctypes.c_void_p]] = []
        if self._library is not None and self._library.nvmlInit_v2() == 0:
            self._devices = list(self._found(wanted))
        self._events = ctypes.c_void_p()
        self._xids = self._listened_to()

    def levels(self) -> dict[str, float]:
        """The values of all of them, by their series. What a GPU does not tell is left out."""
        self._hear()
        return {
            f"gpu/{name}{{gpu={index}}}": value
            for index, device in self._devices
            for name, value in (*self._told(device), *self._heard(device))
        }

    def _listened_to(self) -> dict[int | None, list[int]]:
        """By device, the numbers of the Xid errors of it since then; without those that cannot be listened to."""
        if not self._devices or self._call("EventSetCreate", ctypes.byref(self._events)) != 0:
            return {}
        kinds = ctypes.c_ulonglong(_XID_ERRORS)
        return {
            device.value: []
            for _, device in self._devices
            if self._call("DeviceRegisterEvents", device, kinds, self._events) == 0
        }

    def _hear(self) -> None:
        """What has come since; nobody waits for more."""
        event = _Event()
        while (
            self._xids
            and self._call("EventSetWait_v2", self._events, ctypes.byref(event), ctypes.c_uint(0)) == 0
        ):
            self._xids.get(event.device, []).append(event.data)

    def _heard(self, device: ctypes.c_void_p) -> Iterator[tuple[str, float]]:
        if (xids := self._xids.get(device.value)) is not None:
            yield "xid_errors", float(len(xids))
            if xids:
                yield "last_xid", float(xids[-1])

    def _found(self, wanted: Sequence[str] | None) -> Iterator[tuple[int, ctypes.c_void_p]]:
        count = ctypes.c_uint()
        if self._ask("DeviceGetCount_v2", count) is None:
            return
        for index in range(count.value):
            device, uuid = ctypes.c_void_p(), ctypes.create_string_buffer(_UUID_BYTES)
            if self._call("DeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device)) != 0:
                continue
            self._call("DeviceGetUUID", device, uuid, ctypes.c_uint(_UUID_BYTES))
            name = uuid.value.decode("ascii", "replace")
            is_wanted = wanted is None or any(
                each == str(index) or (each.startswith("GPU-") and name.startswith(each)) for each in wanted
            )
            if is_wanted:
                yield index, device

    def _told(self, device: ctypes.c_void_p) -> Iterator[tuple[str, float]]:
        if (use := self._ask("DeviceGetUtilizationRates", _Utilization(), device)) is not None:
            yield "busy_ratio", use.kernels / 100
            yield "memory_busy_ratio", use.memory / 100
        if (memory := self._ask("DeviceGetMemoryInfo", _Memory(), device)) is not None:
            yield "memory_used_bytes", memory.used
            yield "memory_total_bytes", memory.total
        for name, function, factor, kind in (
            ("temperature_celsius", "DeviceGetTemperature", 1.0, _CHIP),
            ("power_watts", "DeviceGetPowerUsage", _MILLI, None),
            ("power_limit_watts", "DeviceGetEnforcedPowerLimit", _MILLI, None),
            ("clock_hertz", "DeviceGetClockInfo", _MEGA, _MULTIPROCESSORS),
            ("clock_limit_hertz", "DeviceGetMaxClockInfo", _MEGA, _MULTIPROCESSORS),
        ):
            kinds = [] if kind is None else [ctypes.c_uint(kind)]
            if (number := self._ask(function, ctypes.c_uint(), device, *kinds)) is not None:
                yield name, number.value * factor
        reasons = self._ask("DeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong(), device)
        if reasons is not None:
            for name, bits in _SLOWED.items():
                yield f"slowed_by_{name}", float(bool(reasons.value & bits))
        for name, kind in (("corrected", _CORRECTED), ("uncorrected", _UNCORRECTED)):
            kinds = [ctypes.c_uint(kind), ctypes.c_uint(_SINCE_START)]
            if (
                errors := self._ask("DeviceGetTotalEccErrors", ctypes.c_ulonglong(), device, *kinds)
            ) is not None:
                yield f"ecc_{name}_errors", float(errors.value)

    def _ask(self, name: str, into: _T, *arguments: ctypes.c_void_p | ctypes.c_uint) -> _T | None:
        """What a function writes into its last argument; None where it has nothing to tell, or is not there."""
        return into if self._call(name, *arguments, ctypes.byref(into)) == 0 else None

    def _call(self, name: str, *arguments: object) -> int:
        try:
            return int(getattr(self._library, f"nvml{name}")(*arguments))
        except AttributeError:  # an older driver
            return -1
