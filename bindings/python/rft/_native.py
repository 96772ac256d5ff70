"""Loads the compiled extension `rft._rft`; attribute access on this module is attribute access on the extension."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

_extension: ModuleType | None = None


def load() -> ModuleType:
    """The extension module. Imports torch first: its libraries are the ones that the extension is linked against."""
    global _extension
    if _extension is None:
        # Set before tokenizers is used: a fork with its threads running would warn on every worker start.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        importlib.import_module("torch")
        try:
            extension = importlib.import_module("rft._rft")
        except ImportError as error:
            raise ImportError(f"the compiled part of rft is missing or does not load ({error}); build it with `make build` in "
                              "the project's folder (`rft doctor` says what is missing)") from error
        from rft.arguments import explain_all

        explain_all(extension)
        extension.__getattr__ = _missing  # type: ignore[attr-defined]
        _extension = extension
    return _extension


def _missing(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(f"the compiled part of rft has no {name}; it is older than this Python package: run `make build` in the project's "
                         "folder")


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(load(), name)
