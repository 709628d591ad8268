"""Python source without what only its readers need; see `bare`."""

from __future__ import annotations

import ast
import io
import tokenize

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
    told = b"\n".join(lines) + b"\n"
    for token in tokenize.tokenize(io.BytesIO(told).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1].decode()[:column].rstrip().encode()
    return b"\n".join(lines) + b"\n"
