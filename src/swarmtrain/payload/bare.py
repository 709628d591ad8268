"""Python source without what only its readers need; see `bare`."""

from __future__ import annotations

import ast
import re

# Python's own tokenizer is written in Python, and slow. What is within the braces of an f-string
# has other quotes than it, in what Python 3.10 reads, and no comment.
_STRING_OR_COMMENT = re.compile(
    rb"""(?P<string>(?P<three>\"{3}|'{3})(?:[^\\]|\\.)*?(?P=three)|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    rb"|[ \t\f]*#[^\n]*",
    re.DOTALL,
)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def bare(source: bytes) -> bytes:
    """The same module without comments and docstrings, which are much of it also once it is compressed.

    Each statement stays on its line, so that tracebacks name the lines of the repository. In the place of a docstring
    is an empty one, which may be all that a function has.

    Args:
        source: UTF-8.

    Raises:
        SyntaxError: it is no module of this Python.
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            assert text.end_lineno is not None and text.end_col_offset is not None
            first, last = text.lineno - 1, text.end_lineno - 1
            rest = lines[last][text.end_col_offset :]
            lines[first] = lines[first][: text.col_offset] + b'""' + rest
            lines[first + 1 : last + 1] = [b""] * (last - first)
    return _STRING_OR_COMMENT.sub(lambda found: found["string"] or b"", b"\n".join(lines) + b"\n")
