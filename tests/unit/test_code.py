"""Which files are sent, what is said about the others, and how the archive is cut."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from swarmtrain.errors import RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.swarm import code
from swarmtrain.swarm.patterns import compile_pattern, ignored, read_ignore_file


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
            "plan/" + code.PLAN_MARKER: "",
            "plan/ticket": "secret",
            ".dockerignore": "data\n",
        },
    )
    found = code.collect(tmp_path, "auto")
    assert found.names == (".dockerignore", "pkg/model.py", "train.py")
    assert found.notices == ()


def test_weights_and_keys_are_left_out_with_a_reason(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": "", "snapshot.pt": b"x" * 2000, "runs/best.ckpt": "", ".env": "KEY=1"})
    found = code.collect(tmp_path, "auto")
    assert found.names == ("train.py",)
    assert len(found.notices) == 2
    assert "runs/best.ckpt, snapshot.pt (2 kB)" in found.notices[0]
    assert "files:" in found.notices[0]
    assert ".env" in found.notices[1]


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
    assert found.names == ("alias/model.py", "pkg/model.py", "shared.py", "train.py")
    text = "\n".join(found.notices)
    assert "data, a link that leads out of the job's directory" in text
    assert "pkg/up, a link that leads around in a circle" in text
    assert "broken, a link that leads nowhere" in text


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
    for way in (".dockerignore", "files:", "image"):
        assert way in caught.value.hint


def test_a_huge_directory_is_refused_without_reading_it(tmp_path: Path) -> None:
    tree(tmp_path, {"train.py": ""})
    with (tmp_path / "huge.bin").open("wb") as huge:
        huge.truncate(10**12)
    with pytest.raises(RequestError, match=r"huge\.bin"):
        code.collect(tmp_path, "auto")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MAX_FILES", 3)
    tree(tmp_path, {f"{number}.py": "" for number in range(4)})
    with pytest.raises(RequestError, match="more than 3 files"):
        code.collect(tmp_path, "auto")


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
