"""The series that there are: one line each, of which docs/metrics.md is made and by which screens know their units."""

from __future__ import annotations

from typing import NamedTuple


class SeriesKind(NamedTuple):
    """One kind of series.

    Attributes:
        name: as it is stored; ``*`` stands for what a script chooses.
        unit: base units: seconds, bytes, celsius, watts, hertz; ratios are from 0 to 1.
        text: what it is.
        labels: that it has beside ``rank`` or ``node``.
    """

    name: str
    unit: str
    text: str
    labels: tuple[str, ...] = ()


_INTERFACE, _DEVICE, _GPU, _PEER = ("interface",), ("device",), ("gpu",), ("peer",)

TRAINING = (
    SeriesKind("train/loss", "", "the loss, of the rank's own samples"),
    SeriesKind("train/learning_rate", "", "the learning rate, of the optimizer's first group"),
    SeriesKind("train/epoch", "", "epochs that are done"),
    SeriesKind("train/total_steps", "", "steps of the whole training, where it tells how far it is to go"),
    SeriesKind("train/total_epochs", "", "epochs of the whole training, where a script reports them"),
    SeriesKind("train/samples", "samples", "samples of all ranks, since the training began"),
    SeriesKind("train/samples_per_second", "samples/s", "samples of all ranks, in a second of steps"),
    SeriesKind("train/step_seconds", "s", "a step, from the end of the one before, known phases left out"),
    SeriesKind("train/data_seconds", "s", "of a step: the rank waits for its next samples"),
    SeriesKind("train/forward_seconds", "s", "of a step: the forward pass and the loss"),
    SeriesKind("train/backward_seconds", "s", "of a step: the backward pass, as long as this rank computes"),
    SeriesKind(
        "train/communication_seconds",
        "s",
        "of a step: gradients are on their way and nothing else happens; the rank waits for the others",
    ),
    SeriesKind("train/optimizer_seconds", "s", "of a step: the gradients are clipped and applied"),
    SeriesKind(
        "train/gradient_norm", "", "the norm of all gradients before they are clipped; where they are"
    ),
    SeriesKind("train/*", "", "what the script reports by `swarmtrain.trainer.report`"),
    SeriesKind("eval/*", "", "an evaluation's loss and metrics"),
    SeriesKind("eval/seconds", "s", "that an evaluation took"),
    SeriesKind("snapshot/seconds", "s", "that a snapshot took to be written to the disk"),
    SeriesKind("snapshot/wait_seconds", "s", "in which no steps were made for the sake of a snapshot"),
    SeriesKind("snapshot/bytes", "B", "the size of a snapshot on the disk"),
    SeriesKind("snapshot/memory_seconds", "s", "that a snapshot took that stays in memory"),
    SeriesKind("snapshot/memory_bytes", "B", "the size of a snapshot that stays in memory"),
)

NODE = (
    SeriesKind("node/cpu_busy_ratio", "ratio", "of all processors: neither idle nor waiting for a disk"),
    SeriesKind("node/cpu_wait_ratio", "ratio", "of all processors: idle, as something waits for a disk"),
    SeriesKind("node/cpu_steal_ratio", "ratio", "of all processors: taken by the host of a virtual machine"),
    SeriesKind(
        "node/cpu_throttled_ratio",
        "ratio",
        "of the periods in which it could run: its limit held the container back",
    ),
    SeriesKind("node/load", "", "processes that run or wait for a disk, of the last minute"),
    SeriesKind("node/memory_used_ratio", "ratio", "of the memory: not available to new processes"),
    SeriesKind("node/memory_available_bytes", "B", "memory that is available to new processes"),
    SeriesKind("node/container_memory_bytes", "B", "memory of the container, without what can be dropped"),
    SeriesKind(
        "node/container_memory_limit_bytes", "B", "what the container may have, where there is a limit"
    ),
    SeriesKind("node/swap_used_bytes", "B", "swap that is in use"),
    SeriesKind("node/swap_in_bytes_per_second", "B/s", "read from swap"),
    SeriesKind("node/swap_out_bytes_per_second", "B/s", "written to swap"),
    SeriesKind("node/shm_used_ratio", "ratio", "of /dev/shm: in use"),
    SeriesKind("node/shm_free_bytes", "B", "what is left of /dev/shm"),
    SeriesKind("node/pressure_cpu_ratio", "ratio", "of the time: some process waits for a processor (PSI)"),
    SeriesKind("node/pressure_memory_ratio", "ratio", "of the time: some process waits for memory (PSI)"),
    SeriesKind("node/pressure_io_ratio", "ratio", "of the time: some process waits for a disk (PSI)"),
    SeriesKind("node/disk_free_bytes", "B", "what is left where the run keeps its files"),
    SeriesKind("node/disk_used_ratio", "ratio", "of the disk where the run keeps its files: in use"),
    SeriesKind("disk/read_bytes_per_second", "B/s", "read from a disk", _DEVICE),
    SeriesKind("disk/write_bytes_per_second", "B/s", "written to a disk", _DEVICE),
    SeriesKind("disk/busy_ratio", "ratio", "of the time: a disk works", _DEVICE),
    SeriesKind("disk/read_seconds", "s", "a read, from its request to its end", _DEVICE),
    SeriesKind("disk/write_seconds", "s", "a write, from its request to its end", _DEVICE),
    SeriesKind("interface/receive_bytes_per_second", "B/s", "received", _INTERFACE),
    SeriesKind("interface/transmit_bytes_per_second", "B/s", "sent", _INTERFACE),
    SeriesKind("interface/receive_errors_per_second", "1/s", "packets that came broken", _INTERFACE),
    SeriesKind("interface/transmit_errors_per_second", "1/s", "packets that could not be sent", _INTERFACE),
    SeriesKind("interface/receive_drops_per_second", "1/s", "packets that came and were dropped", _INTERFACE),
    SeriesKind("interface/transmit_drops_per_second", "1/s", "packets that were dropped unsent", _INTERFACE),
    SeriesKind("link/receive_bytes_per_second", "B/s", "received from the peer by TCP", _PEER),
    SeriesKind("link/transmit_bytes_per_second", "B/s", "sent to the peer by TCP, and arrived", _PEER),
    SeriesKind("link/round_trip_seconds", "s", "a segment to the peer and its answer", _PEER),
    SeriesKind(
        "link/sent_again_ratio", "ratio", "of the segments to the peer: lost or late, and sent again", _PEER
    ),
    SeriesKind("gpu/busy_ratio", "ratio", "of the time: some kernel runs", _GPU),
    SeriesKind("gpu/memory_busy_ratio", "ratio", "of the time: the memory is read or written", _GPU),
    SeriesKind("gpu/memory_used_bytes", "B", "memory in use, by whomever", _GPU),
    SeriesKind("gpu/memory_total_bytes", "B", "all of its memory", _GPU),
    SeriesKind("gpu/temperature_celsius", "°C", "of the chip", _GPU),
    SeriesKind("gpu/power_watts", "W", "that it draws", _GPU),
    SeriesKind("gpu/power_limit_watts", "W", "that it may draw", _GPU),
    SeriesKind("gpu/clock_hertz", "Hz", "of the multiprocessors", _GPU),
    SeriesKind("gpu/clock_limit_hertz", "Hz", "the most that its multiprocessors can have", _GPU),
    SeriesKind("gpu/slowed_by_power", "", "1: its clocks are low as it draws too much power", _GPU),
    SeriesKind("gpu/slowed_by_heat", "", "1: its clocks are low as it is too hot", _GPU),
    SeriesKind(
        "gpu/slowed_by_hardware", "", "1: its clocks are low as a supply or a bridge asks for it", _GPU
    ),
    SeriesKind(
        "gpu/ecc_corrected_errors", "", "errors of its memory that were corrected, since it started", _GPU
    ),
    SeriesKind("gpu/ecc_uncorrected_errors", "", "those that were not", _GPU),
    SeriesKind(
        "gpu/xid_errors", "", "faults that its driver told of (Xid), since the node's agent began", _GPU
    ),
    SeriesKind("gpu/last_xid", "", "the number of the last of them", _GPU),
)

TABLE = (*TRAINING, *NODE)

_UNITS = {each.name: each.unit for each in TABLE}
_BY_ENDING = tuple(
    (f"_{word}", unit)
    for word, unit in (
        ("bytes_per_second", "B/s"),
        ("per_second", "1/s"),
        ("seconds", "s"),
        ("bytes", "B"),
        ("ratio", "ratio"),
        ("celsius", "°C"),
        ("watts", "W"),
        ("hertz", "Hz"),
    )
)


def unit_of(name: str) -> str:
    """The unit of a series; what a script reports has that which the end of its name says."""
    if (unit := _UNITS.get(name)) is not None:
        return unit
    return next((unit for ending, unit in _BY_ENDING if name.endswith(ending)), "")
