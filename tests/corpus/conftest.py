"""What these tests use."""

from __future__ import annotations

from homes import home

__all__ = ["home"]
