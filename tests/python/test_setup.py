"""Set-up, lint and build files: what they say when something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import lint  # noqa: E402
import requirements  # noqa: E402


def shim(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def run_setup(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts/setup.sh")], env={**os.environ, "RFT_SKIP_APT": "1", **environment}, capture_output=True, text=True, check=False
    )


def write(path: Path, text: str) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return text.splitlines()


def test_a_missing_compiler_is_named_with_its_fix():
    done = run_setup(CXX="/no/such/compiler")
    assert done.returncode == 1
    assert "no C++20 compiler: '/no/such/compiler -std=c++20'" in done.stderr
    assert "fix: apt-get install build-essential" in done.stderr


def test_unreachable_package_sources_are_named_with_the_missing_package(tmp_path):
    shim(tmp_path, "dpkg", '[ "$2" = mold ] && exit 1; echo "Status: install ok installed"')
    shim(tmp_path, "sudo", '"$@"')
    shim(tmp_path, "apt-cache", "exit 0")
    shim(tmp_path, "apt-get", "exit 100")
    done = run_setup(RFT_SKIP_APT="", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "installing system packages: mold" in done.stderr
    assert "apt-get update failed" in done.stderr and "fix: check the network" in done.stderr


def test_too_little_disk_or_memory_stops_before_anything_is_installed(tmp_path):
    (tmp_path / "scripts").mkdir()
    script = (ROOT / "scripts/setup.sh").read_text()
    for limit, what in (("MIN_DISK_GIB=6", "MiB free"), ("MIN_MEMORY_GIB=4", "MiB of memory")):
        (tmp_path / "scripts/setup.sh").write_text(script.replace(limit, limit.split("=")[0] + "=9000000"))
        done = subprocess.run(["bash", str(tmp_path / "scripts/setup.sh")], env={**os.environ, "RFT_SKIP_APT": "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and what in done.stderr and "fix:" in done.stderr
        assert not (tmp_path / ".venv").exists()


def test_a_second_setup_finds_everything_and_installs_nothing():
    done = run_setup()
    assert done.returncode == 0, done.stderr
    assert "ready: .venv with" in done.stderr
    assert "installing" not in done.stderr


def test_torch_is_pinned_and_the_lists_have_no_doubles():
    assert requirements.requirements("torch") == ["torch==2.13.0"]
    names = [line.split("=")[0].split(">")[0] for which in ("runtime", "dev", "adapters") for line in requirements.requirements(which)]
    assert sorted(set(names)) == sorted(names)


def test_lint_refuses_torch_in_a_torch_free_room(tmp_path, monkeypatch):
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    path = tmp_path / "graders/bad.cc"
    found = list(lint.check_includes(path, write(path, '#include "graders/grader.h"\n#include <ATen/core/Tensor.h>\n')))
    assert [(line, message.split(";")[0]) for _, line, message in found] == [(2, "graders does not include torch (ATen/core/Tensor.h)")]


def test_lint_refuses_an_include_that_points_the_wrong_way(tmp_path, monkeypatch):
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    path = tmp_path / "losses/bad.cc"
    lines = write(path, '#include "rft/core/types.h"\n#include "rft/train/trainer.h"\n#include <Python.h>\n')
    assert [line for _, line, _ in lint.check_includes(path, lines)] == [2, 3]
