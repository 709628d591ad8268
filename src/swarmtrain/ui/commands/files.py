"""The commands about the files on a run's nodes: ls, fetch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from swarmtrain.control.files.union import FileVersion
from swarmtrain.control.views import format, view
from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.ui import options, terminal
from swarmtrain.ui.errors import Misused


def complete_path(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The paths on a run's nodes, for a shell; none where that would take a container that has to be started."""
    directory, slash, _ = incomplete.rpartition("/")
    try:
        handle = options.client(ctx.params.get("on"), silent=True).get(ctx.params["name"])
        if handle.run.rests and handle.run.on != "local":
            return []
        found = handle.files.listing(directory or "/" * len(slash) or ".").versions
    except (SwarmtrainError, KeyError):
        return []
    paths = dict.fromkeys(each.path + "/" * each.directory for each in found)
    return [CompletionItem(path) for path in paths if path.startswith(incomplete)]


@click.command(short_help="List the files on a run's nodes.")
@click.option("-R", "--recursive", is_flag=True, help="Also what lies in the directories.")
@options.as_json
@options.on
@options.run_name
@click.argument("path", default=".", shell_complete=complete_path)
def ls(name: str, path: str, on: str | None, recursive: bool, as_json: bool) -> int:
    """List the files in the working directories of all nodes, and who has them; also after the run has ended.

    PATH is relative to the workers' working directory, or snapshots/... Where nodes have other contents under one path,
    each is a line, the newest first. "+ node1" has a copy of another node's file, beside its working directory.

    \b
      swarmtrain ls train
      swarmtrain ls -R train checkpoints
    """
    found = options.client(on).get(name).files.listing(path, recursive=recursive)
    _silence(found.silent)
    if as_json:
        terminal.document([_entry(each) for each in found.versions])
    elif found.versions:
        terminal.table(view.files(found.versions, recursive=recursive))
    else:
        terminal.words("there is nothing in it")
    return ClusterError.exit_code if found.silent else 0


def _entry(version: FileVersion) -> dict[str, object]:
    """A version, for programs."""
    return {
        "path": version.path,
        "bytes": version.bytes,
        "mtime": version.mtime,
        "directory": version.directory,
        "link": version.link,
        "nodes": version.nodes,
        "copies": version.kept,
        "newest": version.newest,
    }


@click.command(short_help="Bring a file or directory from a run's nodes.")
@click.option("--node", help="As this node has it; by default the newest, from whichever node has it.")
@click.option("-a", "--all", "everything", is_flag=True, help="The whole working directory, of all nodes.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="What it becomes, or a directory for it."
)
@click.option("--force", is_flag=True, help="Replace what is there; of a directory, the files that come.")
@options.as_json
@options.on
@options.run_name
@click.argument("path", required=False, shell_complete=complete_path)
@click.pass_context
def fetch(
    ctx: click.Context,
    name: str,
    path: str | None,
    on: str | None,
    node: str | None,
    everything: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Bring a file or directory from a run's nodes, also after the run has ended.

    PATH is relative to the workers' working directory, or snapshots/... It arrives whole or not at all. Of a directory,
    the newest of each file comes from whichever node has it; links and what is no file are left out, with a word.

    \b
      swarmtrain fetch train snapshot.pt
      swarmtrain fetch train --all              # into train.3/
      swarmtrain fetch train snapshots --node lab-2 -o /tmp
    """
    if everything == (path is not None):
        raise Misused("say what is to be fetched", "give a PATH, or --all for everything", ctx)
    if everything and node is not None:
        raise Misused("--all is of all nodes", f"`swarmtrain fetch {name} . --node {node}` is of one", ctx)
    handle = options.client(on).get(name)
    if path is None:
        fetched = handle.files.fetch(".", output, name=handle.id, overwrite=force)
    else:
        fetched = handle.fetch(path, output, node=node, overwrite=force)
    _silence(fetched.silent)
    for each in fetched.left_out:
        terminal.warn(f"left out: {each}")
    if as_json:
        terminal.document(
            {
                "path": str(fetched.path),
                "nodes": fetched.node.split(", "),
                "bytes": fetched.bytes,
                "directory": fetched.directory,
                "left_out": fetched.left_out,
            }
        )
        return
    terminal.words(
        f"{format.name(fetched.path)} from {format.name(fetched.node)} ({format.size(fetched.bytes)})"
    )


def _silence(silent: Mapping[str, str]) -> None:
    for node, why in silent.items():
        terminal.warn(f"{format.name(node)} was not asked: {why}")
