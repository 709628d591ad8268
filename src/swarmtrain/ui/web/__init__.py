"""The page that shows runs in a browser: what it asks for, and how it is served or kept.

Serving it needs the extra `swarmtrain[web]`; nothing else of swarmtrain imports what that brings.
"""

from pathlib import Path

PAGE = Path(__file__).parent / "page"
