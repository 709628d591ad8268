"""A training that goes wrong in the way that its argument names. Rank 1 is to blame, where one is."""

import argparse
import contextlib
import ctypes
import datetime
import faulthandler
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
AT_FAULT = RANK == 1
SOON = datetime.timedelta(seconds=4)


def join(**more):
    dist.init_process_group("gloo", **({"timeout": datetime.timedelta(seconds=30)} | more))


def train(at, what, steps=400):
    """Train, and do something at a step."""
    join()
    model = DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(steps):
        if step == at:
            what()
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        time.sleep(0.01)
    dist.destroy_process_group()


def private_tmpfs(path, options):
    """Put a small file system there, which only this process and its children see."""
    subprocess.run(["true"], check=True)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
    assert libc.mount(b"none", bytes(path), b"tmpfs", 1 if options == "ro" else 0, b"size=1m") == 0


def private_network(*rules):
    """Go, with the other rank, into a network of our own: a loopback with the usual 1500 bytes, and a firewall.

    Rank 0 makes it, and rank 1 finds it by its process. Nothing is left of it once both have ended.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    told = Path(f"/tmp/faulty-{os.environ['MASTER_PORT']}")
    if RANK == 0:
        assert libc.unshare(0x40000000) == 0  # CLONE_NEWNET
        for command in ("ip link set lo mtu 1500 up", "ip link add eth9 type veth", *rules):
            subprocess.run(command.split(), check=True)
        told.symlink_to(f"/proc/{os.getpid()}/ns/net")
        return
    while not told.is_symlink():
        time.sleep(0.05)
    with told.open() as network:
        assert libc.setns(network.fileno(), 0x40000000) == 0
    told.unlink()


class Numbers(Dataset):
    """Some data, and what becomes of whoever asks for the third item."""

    def __init__(self, third=lambda: None, size=4):
        self.third, self.size = third, size

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == 3:
            self.third()
        return torch.ones(self.size)


# ---- python ----------------------------------------------------------------------------------------------------------


def exception():
    def fail():
        if AT_FAULT:
            raise ValueError("shard 7 is damaged")

    train(5, fail)


def different_exceptions():
    join()
    dist.barrier()
    raise KeyError("weights") if RANK == 0 else ValueError(f"shard {RANK} is damaged")


def deterministic():
    exception()


def missing_module():
    import not_there_at_all  # noqa: F401


def missing_name():
    from torch import no_such_name  # noqa: F401


def missing_file():
    Path("weights/pretrained.bin").read_bytes()


def not_permitted():
    os.setuid(65534)
    Path("/proc/1/mem").read_bytes()


def usage():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.parse_args([])


def pickling():
    loader = DataLoader(
        Numbers(lambda: None), num_workers=1, multiprocessing_context=multiprocessing.get_context("spawn")
    )
    next(iter(loader))


def state_mismatch():
    torch.nn.Linear(4, 1).load_state_dict(torch.nn.Linear(8, 1).state_dict())


def nan_loss():
    def fail():
        if AT_FAULT:
            raise FloatingPointError("the loss is nan at step 5")

    train(5, fail)


def words():
    if AT_FAULT:
        sys.exit("there is no data in /data/train")
    time.sleep(60)


def exit_code():
    if AT_FAULT:
        os._exit(3)
    time.sleep(60)


# ---- memory ----------------------------------------------------------------------------------------------------------


def host_memory():
    torch.ones(1 << 44)


def python_memory():
    bytearray(1 << 46)


def shared_memory():
    private_tmpfs(Path("/dev/shm"), "rw")
    for _ in DataLoader(Numbers(size=1 << 20), batch_size=2, num_workers=1):
        pass


def loader_killed():
    if AT_FAULT:
        for _ in DataLoader(Numbers(lambda: os.kill(os.getpid(), signal.SIGKILL)), num_workers=1):
            pass
    time.sleep(60)


def open_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    while True:
        os.dup(1)


# ---- files -----------------------------------------------------------------------------------------------------------


def disk_full():
    if AT_FAULT:
        Path("/dev/full").write_text("a snapshot")
    time.sleep(60)


def disk_full_in_save():
    Path("small").mkdir()
    private_tmpfs(Path("small").resolve(), "rw")
    torch.save(torch.ones(1 << 20), "small/snapshot.pt")


def read_only():
    Path("readonly").mkdir()
    private_tmpfs(Path("readonly").resolve(), "ro")
    torch.save(torch.ones(1), "readonly/snapshot.pt")


def damaged_file():
    torch.save(torch.ones(1000), "snapshot.pt")
    os.truncate("snapshot.pt", 1000)
    torch.load("snapshot.pt")


# ---- gpu -------------------------------------------------------------------------------------------------------------


def no_gpu():
    torch.ones(1).cuda()


def no_nccl():
    dist.init_process_group("nccl")


# ---- communication ---------------------------------------------------------------------------------------------------


def gloo_timeout():
    join(timeout=SOON)
    for step in range(10):
        if AT_FAULT and step == 3:
            time.sleep(60)
        dist.all_reduce(torch.ones(10))


def mismatched_shape():
    join(timeout=SOON)
    dist.barrier()
    dist.all_reduce(torch.ones(10 if AT_FAULT else 1 << 20))


def mismatched_order():
    join(timeout=SOON)
    dist.barrier()
    if AT_FAULT:
        dist.broadcast(torch.ones(1000), 0)
    dist.all_reduce(torch.ones(1000))
    dist.all_reduce(torch.ones(7))


def uneven_inputs():
    join()
    for _ in range(3 if AT_FAULT else 60):
        dist.all_reduce(torch.ones(10))
        time.sleep(0.05)


def no_such_host():
    os.environ["MASTER_ADDR"] = "node-that-is-not.invalid"
    join(timeout=SOON)


def refused():
    os.environ["MASTER_PORT"] = "1"
    if RANK:
        join(timeout=SOON)
    time.sleep(60)


def not_all_joined():
    if AT_FAULT:
        time.sleep(60)
    dist.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), WORLD, RANK == 0, timeout=SOON)
    time.sleep(60)


def wrong_interface():
    os.environ["GLOO_SOCKET_IFNAME"] = "eth7"
    join(timeout=SOON)


SMALL_ONLY = "iptables -A OUTPUT -p tcp -m length --length 1000: -j DROP"


def large_packets_lost():
    private_network(SMALL_ONLY)
    train(10, lambda: dist.all_reduce(torch.ones(1 << 16)))


def nothing_arrives():
    private_network(SMALL_ONLY)
    join(timeout=SOON)
    dist.all_reduce(torch.ones(1 << 16))


def blocked_ports():
    private_network(
        f"iptables -A OUTPUT -p tcp --syn -m multiport ! --dports {os.environ['MASTER_PORT']} -j DROP"
    )
    join(timeout=SOON)


def other_interface():
    private_network(
        "ip addr add 10.77.0.9/24 dev eth9", "ip link set eth9 up", "iptables -A OUTPUT -d 10.77.0.9 -j DROP"
    )
    os.environ["GLOO_SOCKET_IFNAME"] = "eth9"
    join(timeout=SOON)


def not_yet_valid():
    """A server whose certificate begins in the year 2090, as for a node whose clock is wrong."""
    made = (
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        [*made.split(), "-keyout", "key.pem", "-out", "request.pem"], check=True, capture_output=True
    )
    Path("index.txt").touch()
    Path("ca.cnf").write_text(
        "[ca]\ndefault_ca=c\n[c]\ncertificate=request.pem\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n"
        "policy=p\n[p]\ncommonName=supplied\n"
    )
    self_signed = (
        "openssl ca -batch -config ca.cnf -selfsign -keyfile key.pem -ss_cert request.pem -out cert.pem"
    )
    subprocess.run(
        [*self_signed.split(), "-startdate", "20900101000000Z", "-enddate", "20910101000000Z"],
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain("cert.pem", "key.pem")
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            server.wrap_socket(listening.accept()[0], server_side=True)

    threading.Thread(target=serve, daemon=True).start()
    client = ssl.create_default_context(cafile="cert.pem")
    if AT_FAULT:
        client.wrap_socket(socket.create_connection(listening.getsockname()), server_hostname="localhost")
    time.sleep(60)


def port_in_use():
    taken = socket.create_server(("127.0.0.1", 0))
    if AT_FAULT:
        socket.create_server(taken.getsockname())
    time.sleep(60)


def master_port_in_use():
    if RANK == 0:
        taken = socket.create_server(("127.0.0.1", 0))
        dist.TCPStore("127.0.0.1", taken.getsockname()[1], 1, True, timeout=SOON)
    time.sleep(60)


# ---- standing still --------------------------------------------------------------------------------------------------


def stuck_in_data():
    def fail():
        if AT_FAULT:
            for _ in DataLoader(Numbers(lambda: time.sleep(300)), num_workers=0):
                pass

    train(10, fail)


def stuck_in_loader():
    def fail():
        if AT_FAULT:
            for _ in DataLoader(Numbers(lambda: time.sleep(300)), num_workers=1):
                pass

    train(10, fail)


def stuck_in_lock():
    def fail():
        if AT_FAULT:
            threading.Event().wait()

    train(10, fail)


def stuck_in_files():
    def fail():
        if AT_FAULT:
            os.mkfifo("pipe")
            Path("pipe").read_text()

    train(10, fail)


def stuck_in_code():
    def fail():
        while AT_FAULT:
            time.sleep(0.1)

    train(10, fail)


def stuck_apart():
    def fail():
        if RANK == 0:
            dist.barrier()

    train(10, fail)


# ---- ends ------------------------------------------------------------------------------------------------------------


def segfault():
    if AT_FAULT:
        faulthandler.enable()
        ctypes.string_at(0)
    time.sleep(60)


def abort():
    if AT_FAULT:
        os.abort()
    time.sleep(60)


def killed():
    train(10**9, lambda: None, steps=10**6)


def terminated():
    killed()


def interrupted():
    if AT_FAULT:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def stopped_process():
    killed()


def node_lost():
    killed()


def node_frozen():
    killed()


def stopped_by_a_person():
    killed()


# ---- healthy ---------------------------------------------------------------------------------------------------------


def healthy():
    train(5, lambda: None, steps=20)


globals()[sys.argv[1]]()
