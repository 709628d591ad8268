"""Code that tests look at: each file of the project is read once, and each text parsed once, for all of them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def nodes(code: str) -> tuple[ast.AST, ...]:
    """What `ast.walk` finds in a module, which is the first. Nobody changes them."""
    return tuple(ast.walk(ast.parse(code)))


def module(code: str) -> ast.Module:
    tree = nodes(code)[0]
    assert isinstance(tree, ast.Module)
    return tree
