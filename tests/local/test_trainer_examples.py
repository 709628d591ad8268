"""The examples, started as their readers start them: by torchrun, or by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def execute(command: list[str], directory: Path) -> str:
    """Runs a command to its end and returns what it printed; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWARMTRAIN_")}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**environment, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def torchrun(nodes: int, script: str, *args: str, directory: Path) -> str:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={nodes}"]
    return execute([*start, str(EXAMPLES / script), *args], directory)


def test_the_guide_s_script_trains_resumes_and_ends_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    stopped.mkdir()
    whole.mkdir()
    first = torchrun(2, "guide/training_code.py", "3", "2", "--batch_size", "64", directory=stopped)
    assert first.count("Process group initialized") == 2
    assert re.findall(r"Epoch (\d+) \| Steps (\d+)", first) == [("0", "16"), ("1", "16"), ("2", "16")]
    assert re.findall(r"Epoch (\d+) \| Snapshot", first) == ["1", "2"]

    second = torchrun(2, "guide/training_code.py", "5", "2", "--batch_size", "64", directory=stopped)
    assert "Resuming from snapshot.pt at epoch 3" in second
    assert re.findall(r"Epoch (\d+) \| Steps", second) == ["3", "4"]

    torchrun(2, "guide/training_code.py", "5", "2", "--batch_size", "64", directory=whole)
    ended, expected = (torch.load(path / "snapshot.pt") for path in (stopped, whole))
    assert ended["epochs_run"] == expected["epochs_run"] == 5
    assert all(torch.equal(ended["model"][name], expected["model"][name]) for name in expected["model"])


@pytest.mark.long
def test_the_guide_s_script_passes_over_a_damaged_snapshot_for_the_one_before(tmp_path: Path) -> None:
    torchrun(1, "guide/training_code.py", "4", "2", directory=tmp_path)
    path = tmp_path / "snapshot.pt"
    content = bytearray(path.read_bytes())
    weight = torch.load(path)["model"]["weight"]
    content[content.find(bytes(weight.flatten().view(torch.uint8).tolist()))] ^= 1
    path.write_bytes(content)
    output = torchrun(1, "guide/training_code.py", "4", "2", directory=tmp_path)
    assert "Passing over the damaged snapshot snapshot.pt" in output
    assert "Resuming from snapshot.pt at epoch 2" in output
    assert re.findall(r"Epoch (\d+) \| Steps", output) == ["2", "3"]


def test_the_guide_s_script_says_how_it_is_started(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "guide/training_code.py"), "2", "1"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "LOCAL_RANK"},
        text=True,
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert "start it with torchrun" in done.stderr


@pytest.mark.long
def test_digits_are_read_with_at_least_97_percent_right_on_three_ranks(tmp_path: Path) -> None:
    output = torchrun(3, "digits/train.py", directory=tmp_path)
    accuracy = re.search(r"test accuracy ([\d.]+)% of 360 digits", output)
    assert accuracy is not None and float(accuracy[1]) >= 97.0, output


@pytest.mark.long
def test_the_character_model_learns_on_two_ranks_with_accumulation(tmp_path: Path) -> None:
    small = ["--layers", "2", "--width", "32", "--heads", "2", "--context", "32", "--text", "60000"]
    output = torchrun(
        2,
        "charlm/train.py",
        *small,
        "--steps",
        "40",
        "--lr",
        "1e-2",
        "--micro-batch",
        "8",
        directory=tmp_path,
    )
    bits = re.search(r"bits_per_byte ([\d.]+)", output)
    assert bits is not None and float(bits[1]) < 5.5, output  # untrained: log2(256) = 8
    assert "at most 16 on a rank in 2 pieces" in output


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(each, marks=pytest.mark.long) for each in ("spawn", "forkserver"))]
)
def test_plain_ddp_trains_the_same_whatever_starts_its_data_workers(tmp_path: Path, method: str) -> None:
    output = torchrun(
        2, "plain/ddp.py", "--steps", "4", "--workers", "1", "--start-method", method, directory=tmp_path
    )
    hashes = re.findall(r"rank \d of 2 done: 4 steps, weights ([0-9a-f]{64})", output)
    assert len(hashes) == 2 and len(set(hashes)) == 1


def test_fsdp_shards_the_weights(tmp_path: Path) -> None:
    output = torchrun(2, "plain/fsdp.py", "--steps", "2", directory=tmp_path)
    held = re.findall(r"holds (\d+) of (\d+) parameters", output)
    assert sum(int(part) for part, _ in held) == int(held[0][1])
    assert output.count("done: 2 steps") == 2


@pytest.mark.long
def test_the_trainer_needs_no_numpy(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, warnings\n"
        "sys.modules['numpy'] = None\n"
        "warnings.filterwarnings('ignore', message='Failed to initialize NumPy')\n"
        "import torch\n"
        "from swarmtrain.trainer import Options, Trainer\n"
        "data = torch.utils.data.TensorDataset(torch.randn(20, 4), torch.randn(20, 1))\n"
        "model = torch.nn.Linear(4, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "loss = torch.nn.functional.mse_loss\n"
        "with Trainer(model, data, optimizer, loss=loss, eval_data=data, options=Options(batch_size=6)) as trainer:\n"
        "    trainer.fit(epochs=int(sys.argv[1]))\n"
    )
    assert "Training is done: 1 epoch," in torchrun(2, str(script), "1", directory=tmp_path)
    output = torchrun(2, str(script), "2", directory=tmp_path)
    assert "Resuming" in output and "Training is done: 2 epochs" in output
