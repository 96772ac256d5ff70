"""`rft doctor`: what is installed, what would be used, what is missing and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from rft.cli.console import stdout

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "typer", "rich", "matplotlib", "tensorboard")
NEEDED_MEMORY_GB, NEEDED_DISK_GB = 6.0, 4.0
MODEL = Path("models/smollm2-135m-instruct")


@dataclass(frozen=True)
class Finding:
    """One line of the report. `advice` is what to do when it is not good."""

    name: str
    value: str
    good: bool = True
    advice: str = ""


def doctor() -> None:
    """Say what is installed, which device and kernels would be used, and what is missing. Exit code 1 if something is."""
    from rich.table import Table
    from rich.text import Text

    findings = [*machine(), *packages(), *extension(), *files()]
    table = Table(box=None, show_header=False, pad_edge=False)
    for item in findings:
        mark = Text("ok", "green") if item.good else Text("!!", "bold red")
        advice = f"\n-> {item.advice}" if item.advice and not item.good else ""
        table.add_row(mark, Text(item.name, "bold"), Text(item.value + advice))
    stdout().print(table)
    bad = [item for item in findings if not item.good]
    if bad:
        stdout().print(f"\n{len(bad)} thing{'s' if len(bad) > 1 else ''} to look at: {', '.join(item.name for item in bad)}")
        raise typer.Exit(1)
    stdout().print("\nall good")


def machine() -> list[Finding]:
    """Processor, memory, disk, Python."""
    flags = cpu_flags()
    shown = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    memory = meminfo()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    cores = len(os.sched_getaffinity(0))
    python = sys.version_info >= (3, 10)
    return [
        Finding("processor", f"{cores} core{'s' if cores > 1 else ''}, {platform.machine()}, "
                f"{' '.join(shown) or 'no vector extensions known'}"),
        Finding("memory", f"{memory['MemAvailable']:.1f} GB free of {memory['MemTotal']:.1f} GB",
                memory["MemAvailable"] >= NEEDED_MEMORY_GB,
                f"training SmolLM2-135M takes about {NEEDED_MEMORY_GB:.0f} GB; close other programs or use a smaller model"),
        Finding("disk", f"{free:.1f} GB free here", free >= NEEDED_DISK_GB,
                f"a run with checkpoints takes up to {NEEDED_DISK_GB:.0f} GB; make room or set run_dir to another disk"),
        Finding("python", platform.python_version() + f" ({sys.executable})", python, "rft needs Python 3.10 or newer"),
    ]


def packages() -> list[Finding]:
    """The Python packages the commands use."""
    found = []
    for name in PACKAGES:
        try:
            found.append(Finding(name, version(name)))
        except PackageNotFoundError:
            found.append(Finding(name, "not installed", False, "`make setup` installs it into .venv"))
    return found


def extension() -> list[Finding]:
    """The compiled part: does it load, and what would it use?"""
    if importlib.util.find_spec("torch") is None:
        return [Finding("rft._rft", "not tried: torch is missing", False, "`make setup`")]
    from rft import _native

    try:
        native: Any = _native.load()
    except ImportError as error:
        return [Finding("rft._rft", "does not load", False, str(error))]
    info, known = native.build_info(), native.registered()
    return [
        Finding("rft._rft", f"{info['version']}, {info['compiler']}, for torch {info['torch']}",
                info["torch"].split("+")[0] == _torch(),
                f"built for another torch than the one installed ({_torch()}): build again with `make build`"),
        Finding("device", "cuda" if info["cuda"] else "cpu"),
        Finding("kernels", f"{info['kernel']}, {info['threads']} threads"),
        *(Finding(kind, ", ".join(names)) for kind, names in known.items()),
    ]


def files() -> list[Finding]:
    """Things that only some commands need: never an error."""
    from rft.smollm2 import is_complete

    return [
        Finding("demo model", str(MODEL) if is_complete(MODEL) else "not here yet (`rft model get smollm2`, or `make demo`)"),
        Finding("peers", ".venv-peers" if Path(".venv-peers/bin/python").exists()
                else "not set up (`make peers`; for `rft bench --peers` only)"),
    ]


def cpu_flags() -> set[str]:
    """Flags of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def meminfo() -> dict[str, float]:
    """MemTotal and MemAvailable in GB."""
    values = {"MemTotal": 0.0, "MemAvailable": 0.0}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in values:
                values[name] = int(rest.split()[0]) / 1e6
    except OSError:
        return {"MemTotal": float("nan"), "MemAvailable": float("inf")}
    return values


def _torch() -> str:
    return version("torch").split("+")[0]
