"""The bundle runs where nothing but Python is, and is the same bytes every time."""

from __future__ import annotations

import ast
import io
import marshal
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import swarmtrain
from swarmtrain import inside, stream
from swarmtrain.payload import bundle


def modules() -> dict[str, bytes]:
    """What is in it, those of the stream among them."""
    with zipfile.ZipFile(io.BytesIO(bundle.build().data)) as archive:
        plain = {name: archive.read(name) for name in archive.namelist()}
    streamed = stream.unpack(plain.pop(stream.NAME))
    assert not plain.keys() & streamed.keys() and len(plain) < 10 < len(streamed)
    return plain | streamed


def test_same_content_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bundle.build()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle.build.cache_clear()
    assert bundle.build() == first
    assert first.digest == bundle.digest(first.data)


def test_its_code_is_that_of_the_package_line_by_line_without_comments_and_docstrings() -> None:
    """Compiled, both are the same but for the docstrings, and so are the lines that a traceback names."""
    package = Path(swarmtrain.__file__).parent.parent
    for name, content in modules().items():
        bare = content.decode()
        assert "#" not in "".join(re.findall(r"^\s*#.*", bare, re.MULTILINE))
        if name == "swarmtrain/__init__.py":
            bare, adopts, _ = bare.partition("from swarmtrain.stream import adopt\n")
            assert adopts
        if name != "__main__.py":
            source = (package / name).read_text()
            assert _without_docstrings(bare) == _without_docstrings(source), name


def _without_docstrings(source: str) -> bytes:
    """A module as it is compiled, with the lines where its statements begin, and with empty docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr):
            node.end_lineno, node.end_col_offset = node.lineno, node.col_offset
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            line = node.body[0].lineno
            empty = ast.Constant("", lineno=line, col_offset=0)
            node.body[0] = ast.Expr(empty, lineno=line, col_offset=0)
    # Of the version that does not tell how often an object is referred to.
    return marshal.dumps(compile(tree, "", "exec", dont_inherit=True), 2)


def test_it_holds_what_runs_in_containers_and_nothing_of_the_client() -> None:
    names = modules()
    assert {"__main__.py", "swarmtrain/__init__.py", "swarmtrain/inside.py"} <= set(names)
    assert {name.split("/")[1].removesuffix(".py") for name in names if "/" in name} == {
        *bundle.PARTS,
        "__init__",
    }


def test_times_and_modes_do_not_depend_on_the_machine() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.build().data)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}


_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def running(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a module, less those that type checkers alone read."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.stmt):
        yield node
    for field in _BLOCKS:
        for each in getattr(node, field, ()):
            yield from running(each)


def test_it_imports_nothing_of_the_client() -> None:
    """What is in the bundle imports only itself, the standard library, and torch and its kin in workers."""
    allowed = {*sys.stdlib_module_names, "torch", "numpy"}
    for name, content in modules().items():
        for node in running(ast.parse(content)):
            imported = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for module in imported:
                first, _, rest = module.partition(".")
                assert first in allowed or (
                    first == "swarmtrain" and (not rest or rest.split(".")[0] in bundle.PARTS)
                ), f"{name} imports {module}"


def test_it_is_cached_as_a_file_and_mended_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = bundle.build().data
    monkeypatch.setattr(bundle, "_pack", lambda: packed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = bundle.on_disk()
    assert path.read_bytes() == packed
    for damaged in (b"damaged", path.read_bytes()[:-1000], path.read_bytes().replace(b"PK", b"KP", 3), b""):
        path.write_bytes(damaged)
        assert bundle.on_disk() == path and path.read_bytes() == packed
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_python_executes_it_without_the_package_installed(tmp_path: Path) -> None:
    (tmp_path / "bundle.zip").write_bytes(bundle.build().data)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "bundle.zip"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.startswith("usage: bundle.zip agent|coordinator")


@pytest.mark.parametrize("name", ["load", "Client", "Run", "__version__"])
def test_where_the_client_is_not_its_names_are_no_attributes(name: str, tmp_path: Path) -> None:
    """Libraries look through all modules that there are, and pass over what raises AttributeError alone."""
    (tmp_path / "bundle.zip").write_bytes(bundle.build().data)
    code = f"import sys; sys.path.insert(0, 'bundle.zip'); import swarmtrain; print(hasattr(swarmtrain, {name!r}))"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def in_bundle(directory: Path, code: str) -> str:
    """What code prints that has the bundle on its path, and neither the package nor anything else that is installed."""
    (directory / "bundle.zip").write_bytes(bundle.build().data)
    code = f"import sys; sys.path.insert(0, 'bundle.zip')\n{textwrap.dedent(code)}"
    argv = [sys.executable, "-S", "-I", "-c", code]
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_of_the_stream_are_as_those_of_a_zip(tmp_path: Path) -> None:
    """Tracebacks and `inspect` see their lines, and nothing but the finder tells that they are there."""
    told = in_bundle(
        tmp_path,
        """
        import inspect, os, sys, traceback
        from swarmtrain.wire.disk import storage
        import swarmtrain.wire
        os.chdir("/")
        sys.path_importer_cache.clear()
        from swarmtrain.wire import plural
        print(storage.__file__, storage.__package__, swarmtrain.wire.__path__)
        print(inspect.getsource(plural.plural).splitlines()[0])
        try:
            import swarmtrain.nothing
        except ModuleNotFoundError as error:
            print(error.name)
        try:
            storage.write_whole(None, b"")
        except Exception:
            print(traceback.format_exc())
        """,
    ).splitlines()
    wire = "bundle.zip/swarmtrain/wire"
    assert told[0] == f"{wire}/disk/storage.py swarmtrain.wire.disk ['{wire}']"
    assert told[1].startswith("def plural(") and told[2] == "swarmtrain.nothing"
    (at,) = [n for n, line in enumerate(told) if line.startswith(f'  File "{wire}/disk/storage.py", line ')]
    assert "path" in told[at + 1], told


def test_a_health_check_and_a_part_that_is_not_there_leave_the_stream_closed(tmp_path: Path) -> None:
    told = in_bundle(
        tmp_path,
        """
        import swarmtrain.inside, swarmtrain.wire.alive
        try:
            import colorama_that_is_not_there
        except ModuleNotFoundError:
            pass
        print([each._opened for each in sys.meta_path if type(each).__name__ == "Stream"])
        import swarmtrain.wire.sockets
        print([each._opened is not None for each in sys.meta_path if type(each).__name__ == "Stream"])
        """,
    )
    assert told == "[None]\n[True]\n"


def test_a_part_that_talks_has_asyncio_without_tls_and_leaves_ssl_where_it_is() -> None:
    code = """
import sys
import swarmtrain
from swarmtrain import stream
from swarmtrain.wire.machine.asynchronous import import_asyncio
import_asyncio()
assert "ssl" not in sys.modules, "a good part of asyncio's import"
import asyncio, ssl
asyncio.run(asyncio.sleep(0))
assert ssl.create_default_context()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", ["spawner", "start"])
def test_where_a_users_script_may_run_asyncio_is_whole(part: str) -> None:
    assert part not in inside._TALKING
