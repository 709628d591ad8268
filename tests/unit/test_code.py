"""Which files are sent, what is said about the others, and how the archive is cut."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from swarmtrain.agent.code import unpack
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.payload import code, credentials
from swarmtrain.payload.patterns import compile_pattern, ignored, read_ignore_file
from swarmtrain.payload.tree import PLAN_MARKER, RUNS_MARKER
from swarmtrain.ui import sending


def tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def loaded(directory: Path, **keys: object) -> LoadedJob:
    job = Job(**{"script": "train.py", "image": "torch", **keys})  # type: ignore[arg-type]
    return LoadedJob(job, directory)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("data", "data/a.csv", True),
        ("data", "src/data/a.csv", False),
        ("/data", "data/a.csv", True),
        ("data/", "data/a.csv", True),
        ("**/data", "src/data/a.csv", True),
        ("**/data", "data", True),
        ("*.csv", "a.csv", True),
        ("*.csv", "data/a.csv", False),
        ("**/*.csv", "data/deep/a.csv", True),
        ("**/*.csv", "a.csv", True),
        ("data/**", "data/deep/a.csv", True),
        ("data/**", "data", False),
        ("data/*/x", "data/a/x", True),
        ("data/*/x", "data/a/b/x", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab].py", "b.py", True),
        ("[^ab].py", "b.py", False),
        ("a.py", "axpy", False),
        (r"\*.py", "*.py", True),
        (r"\*.py", "a.py", False),
        ("./src/../data", "data/x", True),
    ],
)
def test_patterns_are_those_of_dockerignore(pattern: str, path: str, matches: bool) -> None:
    assert compile_pattern(pattern).matches(path) is matches


def test_the_last_pattern_decides() -> None:
    patterns = read_ignore_file("\ufeff# notes\n\ndata\n!data/small.csv\ndata/small.csv.bak\n")
    assert ignored("data/large.csv", patterns)
    assert not ignored("data/small.csv", patterns)
    assert not ignored("train.py", patterns)


def test_an_open_bracket_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", ".dockerignore": "[ab"})
    with pytest.raises(RequestError, match=r"\.dockerignore.*bracket"):
        code.collect(tmp_path, "auto")


def test_auto_takes_the_whole_directory_but_for_caches_and_ignored_files(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "train.py": "",
            "pkg/model.py": "",
            "pkg/__pycache__/model.cpython-311.pyc": "",
            "old.pyc": "",
            ".git/HEAD": "",
            ".venv/bin/python": "",
            "myenv/pyvenv.cfg": "",
            "myenv/lib/x.py": "",
            "node_modules/x/index.js": "",
            "data/large.bin": "",
            "plan/" + PLAN_MARKER: "",
            "plan/secret": "secret",
            "home/" + RUNS_MARKER: "",
            "home/runs/train.1/coordinator/job.json": "",
            ".dockerignore": "data\n",
        },
    )
    found = code.collect(tmp_path, "auto")
    assert found.names == (".dockerignore", "pkg/model.py", "train.py")
    assert found.notices == ()


@pytest.mark.parametrize("when", ["before it is looked at", "before it is entered"])
def test_a_directory_that_goes_while_the_code_is_read_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    tree(tmp_path, {"train.py": "", "cache/of/somebody": ""})
    scan = os.scandir

    def scandir(path: Path) -> list[os.DirEntry[str]]:
        found = list(scan(path)) if when == "before it is looked at" else []
        if found or path != tmp_path:
            with suppress(FileNotFoundError):
                (tmp_path / "cache").rename(tmp_path.with_name(f"{tmp_path.name}-gone"))
        return found or list(scan(path))

    monkeypatch.setattr(os, "scandir", scandir)
    found = code.collect(tmp_path, "auto")
    assert (found.names, found.left_out) == (("train.py",), ())


def test_weights_and_keys_are_left_out_with_a_reason(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "snapshot.pt": b"x" * 2000, "runs/best.ckpt": "", ".env": "KEY=1"})
    found = code.collect(tmp_path, "auto")
    assert found.names == ("train.py",)
    assert len(found.notices) == 2
    assert "runs/best.ckpt, snapshot.pt (2 kB)" in found.notices[0]
    assert "files:" in found.notices[0]
    assert ".env" in found.notices[1]


CHECKPOINTS = {
    "transformers": (
        "out/checkpoint-60",
        ["model.safetensors", "config.json", "optimizer.pt", "trainer_state.json"],
    ),
    "in shards": (
        "hub",
        ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"],
    ),
    "before safetensors": ("hub", ["pytorch_model.bin", "config.json", "vocab.txt"]),
    "peft": ("adapter", ["adapter_model.bin", "adapter_config.json", "README.md"]),
    "accelerate": ("state/checkpoint_0", ["optimizer.bin", "random_states_0.pkl"]),
    "dcp": ("dcp", ["__0_0.distcp", "__1_0.distcp", ".metadata"]),
    "lightning": ("epoch=1-step=20.ckpt", [".metadata", "__0_0.distcp", "meta.pt"]),
    "a run's own": ("runs/exp", ["weights.pt", "args.json"]),
    "with its logs": (
        "runs/a",
        ["best.pth", "hparams.yaml", "metrics.csv", "events.out.tfevents.1.host.2.0"],
    ),
    "with its curves": ("runs/b", ["best.pth", "hparams.yaml", "loss.png"]),
    "ultralytics": (
        "runs/train",
        ["weights/best.pt", "weights/last.pt", "args.yaml", "results.csv", "labels.jpg"],
    ),
    "exported": ("export", ["model.onnx", "model.onnx.data", "labels.json"]),
    "deepspeed": ("ds/global_step10", ["mp_rank_00_model_states.pt", "zero_to_fp32.py", "notes.txt"]),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_is_never_half_sent(tmp_path: Path, kind: str) -> None:
    directory, names = CHECKPOINTS[kind]
    tree(tmp_path, {"train.py": "", "config.json": "", **{f"{directory}/{name}": "xx" for name in names}})
    found = code.collect(tmp_path, "auto")
    assert found.names == ("config.json", "train.py")
    parent = f"{directory.rpartition('/')[0]}/"
    assert found.directories == ((parent,) if parent != "/" else ()), "not there, rather than there and empty"
    (notice,) = found.notices
    assert f"left out of the code: {directory}/ ({2 * len(names)} B); model files and checkpoints" in notice
    whole = code.collect(tmp_path, ["*.py", directory])
    assert set(whole.names) == {"train.py", *(f"{directory}/{name}" for name in names)}


@pytest.mark.parametrize("directory", ["checkpoints", "out/ckpt", "out/my-checkpoints"])
def test_where_checkpoints_are_put_is_there_and_empty(tmp_path: Path, directory: str) -> None:
    written = ("epoch1.pt", "epoch1.json", "best/meta.json")
    tree(tmp_path, {"train.py": "", **{f"{directory}/{name}": "xx" for name in written}})
    found = code.collect(tmp_path, "auto")
    assert (found.names, found.directories) == (("train.py",), (f"{directory}/",))
    assert f"left out of the code: {directory}/ (6 B)" in found.notices[0]
    assert set(code.collect(tmp_path, ["*.py", directory]).names) == {
        "train.py",
        *(f"{directory}/{name}" for name in written),
    }


def test_no_more_than_one_copy_of_the_archive_is_in_memory(tmp_path: Path) -> None:
    tree(tmp_path, {f"{number}.bin": os.urandom(7_000_000) for number in range(4)})
    code.collect(tmp_path, "auto", None)  # what is made once for all
    tracemalloc.start()
    try:
        found = code.collect(tmp_path, "auto", None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.archive) > 28_000_000 and most < 1.3 * len(found.archive)


def test_what_points_to_a_checkpoint_and_what_lies_in_it_stays_with_it(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "ds/latest": "global_step5", "ds/log.txt": "", "latest": "not one"})
    tree(tmp_path, dict.fromkeys(("ds/global_step5/a.pt", "ds/global_step5/more/deep/config.json"), "x"))
    found = code.collect(tmp_path, "auto")
    assert found.names == ("ds/log.txt", "latest", "train.py")
    assert "ds/global_step5/, ds/latest" in found.notices[0]


@pytest.mark.parametrize(
    "path",
    [
        *("data/labels.json", "configs/large.yaml", "words/corpus.txt", "exp/src/net.py", "exp/args.json"),
        "demo/cat.jpg",
    ],
)
def test_what_lies_beside_weights_and_was_not_written_with_them_is_sent(tmp_path: Path, path: str) -> None:
    beside = {f"{path.split('/')[0]}/start.pt": "x", "exp/src/other.py": ""}
    tree(tmp_path, {"train.py": "", path: "", **beside})
    assert set(code.collect(tmp_path, "auto").names) == {"train.py", path, "exp/src/other.py"}


@pytest.mark.parametrize("name", ["net.onnx", "net.onnx_data", "net.gguf", "tf_model.h5", "exported.pt2"])
def test_models_of_other_kinds_stay_here_too(tmp_path: Path, name: str) -> None:
    tree(tmp_path, {"train.py": "", name: "x"})
    found = code.collect(tmp_path, "auto")
    assert found.names == ("train.py",) and f"left out of the code: {name} (1 B)" in found.notices[0]


def test_code_beside_weights_is_sent_and_so_is_what_lies_with_it(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "model.safetensors": "", "config.json": ""})
    tree(
        tmp_path,
        {"net2/__init__.py": "", "net2/config.json": "", "net2/init.pt": "x", "epoch2/labels.csv": ""},
    )
    found = code.collect(tmp_path, "auto")
    assert found.names == (
        "config.json",
        "epoch2/labels.csv",
        "net2/__init__.py",
        "net2/config.json",
        "train.py",
    )
    assert "model.safetensors, net2/init.pt (1 B)" in found.notices[0]


def test_a_checkpoint_that_dockerignore_names_is_no_news(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {"train.py": "", "checkpoint-1/a.pt": "", "checkpoint-1/b.json": "", ".dockerignore": "check*"},
    )
    found = code.collect(tmp_path, "auto")
    assert (found.names, found.notices) == ((".dockerignore", "train.py"), ())


def test_files_that_are_named_are_sent_whatever_they_are(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {"train.py": "", "start.pt": "", "data/a.csv": "", "notes.md": "", ".dockerignore": "data\n"},
    )
    assert code.collect(tmp_path, ["*.py", "start.pt", "data", "!data/b*"]).names == (
        "data/a.csv",
        "start.pt",
        "train.py",
    )


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "model.py": ""})
    with pytest.raises(RequestError, match=r"modle\.py matches no file .*did you mean model\.py\?"):
        code.collect(tmp_path, ["train.py", "modle.py"])


def test_same_files_give_the_same_bytes_and_modes_survive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tree(tmp_path / name, {"train.py": "print()", "run.sh": "#!/bin/sh\n"})
        (tmp_path / name / "run.sh").chmod(0o755 if name == "one" else 0o700)
    os.utime(tmp_path / "two" / "train.py", (1, 1))
    first, second = (code.collect(tmp_path / name, "auto").archive for name in ("one", "two"))
    assert first == second
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert [entry.external_attr >> 16 for entry in archive.infolist()] == [0o100755, 0o100644]


def test_links_are_followed_inside_of_the_tree_only(tmp_path: Path) -> None:
    tree(tmp_path / "outside", {"big.bin": "", "shared.py": "x = 1"})
    root = tree(tmp_path / "job", {"train.py": "", "pkg/model.py": ""})
    (root / "alias").symlink_to("pkg")
    (root / "pkg" / "up").symlink_to("..")
    (root / "data").symlink_to(tmp_path / "outside")
    (root / "shared.py").symlink_to(tmp_path / "outside" / "shared.py")
    (root / "broken").symlink_to("nowhere")
    found = code.collect(root, "auto")
    assert found.names == ("alias/model.py", "pkg/model.py", "train.py")
    text = "\n".join(found.notices)
    assert "data/, shared.py (5 B); a link that leads out of the job's directory" in text
    assert "alias/up/, pkg/up/; a link that leads around in a circle" in text
    assert "broken; a link that leads nowhere" in text


def test_a_link_out_of_the_tree_is_followed_where_a_person_has_named_it(tmp_path: Path) -> None:
    tree(tmp_path / "outside", {"pkg/a.py": "", "pkg/.env": "KEY=1", "other.py": "", "train.py": ""})
    root = tree(tmp_path / "job", {"local.py": ""})
    for name in ("pkg", "train.py", "other.py"):
        (root / name).symlink_to(tmp_path / "outside" / name)
    (root / "all").symlink_to(tmp_path / "outside")
    assert code.collect(root, "auto").names == ("local.py",)
    assert code.of(loaded(root)).names == ("local.py", "train.py"), "the script is named"
    assert code.of(loaded(root, script="all/train.py")).names == ("all/train.py", "local.py")
    assert code.collect(root, ["*"]).names == ("local.py",)
    named = code.collect(root, ["local.py", "pkg", "all/other.py"])
    assert named.names == ("all/other.py", "local.py", "pkg/a.py")
    assert "pkg/.env" in named.notices[0]


KEYS = [
    *(
        ".env",
        ".env.local",
        ".env.production",
        "prod.env",
        ".envrc",
        ".env~",
        ".env.swp",
        "..env.swp",
        "#.env#",
    ),
    *(
        ".ssh/config",
        ".ssh/known_hosts",
        "deploy/.aws/credentials",
        ".gnupg/x",
        ".kube/config",
        ".netrc",
        "_netrc",
    ),
    *(".docker/config.json", ".config/gh/hosts.yml", ".config/gcloud/application_default_credentials.json"),
    *(
        ".npmrc",
        ".pypirc",
        "pip.conf",
        ".git-credentials",
        "id_rsa",
        "keys/id_ed25519",
        "id_rsa.bak",
        "server.PEM",
    ),
    *(
        "tls.key",
        "client.p12",
        "kubeconfig",
        "my.kubeconfig",
        "terraform.tfstate",
        "terraform.tfstate.backup",
    ),
    *(
        "x.tfvars",
        ".cache/huggingface/token",
        "hf_token.txt",
        "wandb/settings",
        "credentials.json",
        "secrets.toml",
    ),
    *("secrets/anything", "kaggle.json", ".bash_history", ".pgpass", ".vault-token", "gcp-credentials.json"),
    *("my_api_key.txt", ".netrc.bak", ".terraform/terraform.tfstate"),
]
NO_KEYS = [
    *(
        "train.py",
        "tokenizer.json",
        "special_tokens_map.json",
        "tokens.txt",
        "vocab.json",
        "keys.py",
        "secrets.py",
    ),
    *(
        ".env.example",
        ".env.sample",
        "config.yaml",
        "id_rsa.pub",
        "environment.yml",
        "credentials.py",
        "envs/a.py",
    ),
    *(
        "monkey.csv",
        ".docker/Dockerfile",
        "keyboard.txt",
        ".github/workflows/ci.yml",
        ".gitignore",
        "setup.cfg",
    ),
    *("requirements.txt", "pyproject.toml", "token_counts.csv", "wandb/run-1/files/config.yaml"),
]


@pytest.mark.parametrize("name", KEYS)
def test_files_that_hold_keys_stay_here_and_are_named(tmp_path: Path, name: str) -> None:
    tree(tmp_path, {"train.py": "", name: "x"})
    for files in ("auto", ["**"], ["*.py", f"{name[:2]}*"], ["*.py", name.rpartition("/")[0] or "*"]):
        found = code.collect(tmp_path, files)
        assert found.names == ("train.py",), "a directory or a glob does not name what lies in it"
        assert len(found.notices) == 1 and "usually hold keys" in found.notices[0]
        assert name.split("/")[0] in found.notices[0]
    assert code.collect(tmp_path, ["train.py", name]).names == tuple(sorted((name, "train.py")))


def test_files_that_only_sound_like_keys_are_sent(tmp_path: Path) -> None:
    found = code.collect(tree(tmp_path, dict.fromkeys(NO_KEYS, "x")), "auto")
    assert found.names == tuple(sorted(NO_KEYS)) and found.notices == ()


PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deploy", PRIVATE),
        ("bundle.txt", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n" + PRIVATE),
        ("project-1234.json", '{"type": "service_account", "private_key": "x"}'),
        ("adc.json", '{"client_secret": "x", "refresh_token": "x", "type": "authorized_user"}'),
        ("notes/hub", "hf_" + "a1" * 17 + "\n"),
        ("gh.txt", "ghp_" + "a1" * 18),
    ],
)
def test_keys_are_known_by_their_content_too(tmp_path: Path, name: str, content: str) -> None:
    tree(tmp_path, {"train.py": "", name: content})
    found = code.collect(tmp_path, "auto")
    assert found.names == ("train.py",) and name in found.notices[0]
    assert code.collect(tmp_path, ["train.py", name]).names == tuple(sorted((name, "train.py")))


def test_a_link_to_a_key_is_a_key(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", ".env": "KEY=1"})
    (tmp_path / "settings").symlink_to(".env")
    found = code.collect(tmp_path, "auto")
    assert found.names == ("train.py",) and ".env, settings" in found.notices[0]


def test_code_with_a_key_in_it_is_sent_with_a_warning(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": f"login('hf_{'a1' * 17}')", "ssh.md": PRIVATE, "data.json": '{"a": "hf_"}'})
    found = code.collect(tmp_path, "auto")
    assert found.names == ("data.json", "ssh.md", "train.py")
    (notice,) = found.notices
    assert notice.startswith("ssh.md, train.py is sent") and "pass keys under env:" in notice


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--api-key", "a1b2c3d4e5"], ["--api-key"]),
        (["--wandb_api_key=a1b2c3d4e5"], ["--wandb_api_key"]),
        (["--hf-token=a1b2c3d4e5f6"], ["--hf-token"]),
        (["--password", "hunter2hunter2"], ["--password"]),
        (["x", "hf_" + "a1" * 17], ["hf_a..."]),
        (["--max-token", "4096", "--pad-token", "<pad>", "--secret", "--lr", "1"], []),
        (["--tokenizer", "gpt2-medium-1", "--key-dim", "64", "20", "5"], []),
    ],
)
def test_arguments_that_look_like_keys_are_pointed_out_and_not_shown(
    tmp_path: Path, arguments: list[str], shown: list[str]
) -> None:
    assert credentials.suspicious_arguments(tuple(arguments)) == shown
    sent = code.of(loaded(tree(tmp_path, {"train.py": ""}), args=arguments))
    assert [f"{', '.join(shown)} looks like a key" in notice for notice in sent.notices] == [True] * bool(
        shown
    )
    assert not any("a1b2c3" in notice or "hunter2" in notice for notice in sent.notices)


def test_empty_directories_are_sent_and_those_whose_files_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "ckpt/a.pt": "x", "conf/.env": "K=1", "pkg/a.py": "", "ignored/x": ""})
    tree(tmp_path, {".dockerignore": "ignored\ncache/*"})
    for name in ("logs", "deep/down", "pkg/out", "cache", "ignored/y"):
        (tmp_path / name).mkdir(parents=True)
    found = code.collect(tmp_path, "auto")
    assert found.directories == ("cache/", "ckpt/", "conf/", "deep/down/", "logs/", "pkg/out/")
    assert unpack([parted(tmp_path / "zip", found.archive)], tmp_path / "work") == []
    arrived = {str(each.relative_to(tmp_path / "work")) for each in (tmp_path / "work").rglob("*")}
    assert arrived == {
        *(".dockerignore", ".swarmtrain-code.json", "train.py", "pkg", "pkg/a.py", "pkg/out"),
        *("cache", "ckpt", "conf", "deep", "deep/down", "logs"),
    }
    named = code.collect(tmp_path, ["*.py", "logs", "deep/**"])
    assert (named.names, named.directories) == (("train.py",), ("deep/down/", "logs/"))


def parted(path: Path, archive: bytes) -> Path:
    path.write_bytes(archive)
    return path


def test_what_a_run_has_put_in_place_of_a_directory_or_a_file_is_kept(tmp_path: Path) -> None:
    work = tmp_path / "work"
    sent = parted(
        tmp_path / "zip", code.collect(tree(tmp_path / "job", {"a/b": "", "c": ""}), "auto").archive
    )
    (tmp_path / "job" / "logs").mkdir()
    (work / "c").mkdir(parents=True)
    for name in ("a", "logs"):
        (work / name).write_text("the run's")
    assert unpack([sent], work) == ["a/b", "c"]
    more = parted(tmp_path / "more", code.collect(tmp_path / "job", "auto").archive)
    assert unpack([more], work) == ["a/b", "c", "logs/"]
    assert (work / "logs").read_text() == "the run's"


@pytest.mark.parametrize("record", ["[]", '{"train.py": []}', "half of"])
def test_a_record_of_what_was_unpacked_that_makes_no_sense_is_none(tmp_path: Path, record: str) -> None:
    """It lies in the working directory, where a script may write."""
    work = tree(tmp_path / "work", {"train.py": "the run's", ".swarmtrain-code.json": record})
    sent = code.collect(tree(tmp_path / "job", {"train.py": "", "new.py": ""}), "auto").archive
    assert unpack([parted(tmp_path / "zip", sent)], work) == ["train.py"]
    assert (work / "new.py").exists()


def test_a_file_that_a_power_cut_has_emptied_is_sent_anew_and_one_that_the_run_has_emptied_stays(
    tmp_path: Path,
) -> None:
    """The disk is waited for once for all files, by the record of them."""
    work = tmp_path / "work"
    sent = code.collect(tree(tmp_path / "job", {"train.py": "print(1)", "todo": "1"}), "auto").archive
    assert unpack([parted(tmp_path / "zip", sent)], work) == []
    written = (work / "train.py").stat().st_mtime
    for name, age in (("train.py", 0.0), ("todo", 60.0)):
        (work / name).write_bytes(b"")
        os.utime(work / name, (written + age, written + age))
    assert unpack([tmp_path / "zip"], work) == ["todo"]
    assert [(work / name).read_text() for name in ("train.py", "todo")] == ["print(1)", ""]


def test_an_archive_that_the_disk_has_damaged_is_refused_in_a_sentence(tmp_path: Path) -> None:
    archive = bytearray(code.collect(tree(tmp_path / "job", {"train.py": "print(1)\n" * 50}), "auto").archive)
    content = archive.index(b"train.py") + len("train.py")
    archive[content : content + 4] = b"\xff" * 4
    with pytest.raises(ClusterError, match="the code could not be unpacked into"):
        unpack([parted(tmp_path / "zip", bytes(archive))], tmp_path / "work")


def test_sockets_and_pipes_are_no_code(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": ""})
    os.mkfifo(tmp_path / "pipe")
    assert code.collect(tmp_path, "auto").names == ("train.py",)


def test_code_too_large_names_the_largest_files_and_the_ways_out(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "small.bin": os.urandom(1000), "large.bin": os.urandom(9000)})
    with pytest.raises(RequestError) as caught:
        code.collect(tmp_path, "auto", limit=5000)
    lines = caught.value.message.splitlines()
    assert "too large" in lines[0]
    assert [line.split()[-1] for line in lines[1:]] == ["large.bin", "small.bin", "train.py"]
    for way in (".dockerignore", "files:", "image", "volumes: mounts it"):
        assert way in caught.value.hint


def test_a_huge_directory_is_refused_without_reading_it(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": ""})
    with (tmp_path / "huge.bin").open("wb") as huge:
        huge.truncate(10**12)
    with pytest.raises(RequestError, match=r"huge\.bin"):
        code.collect(tmp_path, "auto")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmtrain.payload.tree.MAX_FILES", 3)
    tree(tmp_path, {f"{number}.py": "" for number in range(4)})
    with pytest.raises(RequestError, match="more than 3 files"):
        code.collect(tmp_path, "auto")


def test_directories_that_lie_deeper_than_code_does_stay_here_with_a_word(tmp_path: Path) -> None:
    """Some scripts make a thousand of them: the walk would end in a RecursionError."""
    tree(tmp_path, {"train.py": "", "here/" * 50 + "a.py": "", "deep/" * 150 + "b.py": ""})
    found = code.collect(tmp_path, "auto")
    assert {"train.py", "here/" * 50 + "a.py"} <= set(found.names) and not any(
        name.endswith("b.py") for name in found.names
    )
    assert ["deeper than 100" in each.reason.text for each in found.left_out] == [True]


def test_parts_fit_into_configs_and_join_to_the_archive(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "data.bin": os.urandom(1_200_000)})
    found = code.collect(tmp_path, "auto")
    parts = found.parts()
    assert len(parts) == 3
    assert max(map(len, parts)) <= 480 * 1024
    assert b"".join(parts) == found.archive


def test_a_script_that_is_not_sent_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "model.py": "", ".dockerignore": "train.py"})
    with pytest.raises(RequestError, match="not among the files that are sent") as caught:
        code.of(loaded(tmp_path))
    assert ".dockerignore" in caught.value.hint
    with pytest.raises(RequestError, match=r"there is no modle\.py .*did you mean model\.py\?"):
        code.of(loaded(tmp_path, script="modle.py"))
    with pytest.raises(RequestError, match="not among") as caught:
        code.of(loaded(tmp_path, files=["model.py"]))
    assert "files:" in caught.value.hint


def test_nothing_is_sent_when_the_code_is_in_the_image(tmp_path: Path) -> None:
    assert code.of(loaded(tmp_path, script="/app/train.py", files=[])) == code.Code()
    assert code.Code().parts() == []


def test_a_module_needs_no_file(tmp_path: Path) -> None:
    tree(tmp_path, {"pkg/train.py": ""})
    assert code.of(LoadedJob(Job(module="pkg.train", image="torch"), tmp_path)).names == ("pkg/train.py",)


def test_what_goes_is_listed_with_sizes_and_what_stays_with_reasons(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "x" * 10, "a.py": "x" * 2000, ".env": "K=1", ".git/HEAD": "", "skip/x": "x"})
    tree(tmp_path, {".dockerignore": "skip"})
    (tmp_path / "logs").mkdir()
    wanted = LoadedJob(Job(script="train.py", env={"KEY": "v"}), tmp_path, {"KEY": "v"})
    sent = code.of(wanted)
    assert sending.files(sent) == [
        *("      4 B  .dockerignore", "     2 kB  a.py", "     10 B  train.py", "    empty  logs/"),
    ]
    assert sending.files(sent, most=1) == [
        "     2 kB  a.py",
        "      ...  and 2 smaller ones",
        "    empty  logs/",
    ]
    said = sending.left_out(sent)
    assert [line.partition(";")[0] for line in said] == [
        "left out of the code: skip/, skip/x (1 B)",
        "left out of the code: .git/",
        "left out of the code: .env (3 B)",
    ]
    assert sent.notices == tuple(line for line in said if ".env" in line), "the rest is no news"
    total = sending.total(sent, wanted)
    assert total.startswith("3 files, 2.01 kB, ") and total.endswith("as a secret, the variables KEY")
