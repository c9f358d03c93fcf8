"""``python -m node.cli``: how the supervisor starts the roles."""

from __future__ import annotations

from node.cli import run

run()
