"""The command `rft`. Every command imports what it needs when it runs, so that `rft --help` answers at once."""

from __future__ import annotations

from rft.cli.app import app, main

__all__ = ["app", "main"]
