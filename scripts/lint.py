"""Quick checks that compilers and formatters do not make: includes between rooms, file sizes, YAML and JSON, white space.

Prints one `file:line: message` per finding; exit status 1 if there are any. Reads the files that git knows or would add.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent

# What each room may include besides itself. The picture is in CONTRIBUTING.md.
CORE = {"rft/core"}
BASE = CORE | {"rft/io", "rft/config"}
ROOMS: dict[str, set[str]] = {
    "rft/core": set(),
    "rft/io": CORE,
    "rft/config": CORE | {"rft/io"},
    "rft/api": CORE,
    "rft/net": CORE | {"rft/io"},
    "graders": BASE | {"rft/api", "rft/net"},
    "rollout": BASE | {"rft/api", "graders"},
    "rft/serve": BASE | {"rft/api", "rft/net"},
    "rft/remote": BASE | {"rft/api", "rft/net"},
    "losses": CORE,
    "rft/tensor": CORE,
    "rft/models": BASE | {"rft/tensor"},
    "rft/engine": BASE | {"rft/api", "rft/net", "rft/remote", "rft/models", "rft/tensor"},
    "rft/train": BASE | {"rft/api", "rft/models", "rft/tensor", "losses"},
}
TORCH_FREE = {"rft/core", "rft/io", "rft/config", "rft/api", "rft/net", "graders", "rollout", "rft/serve", "rft/remote"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
TORCH = re.compile(r"^(torch|ATen|c10)/")
PYTHON = re.compile(r"^(pybind11/|Python\.h)")

MAX_LINES = 500
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w./<])/(work|root|farm)/\w")
SOURCES = {".h", ".cc", ".py"}
TEXT = SOURCES | {".cmake", ".txt", ".yaml", ".yml", ".toml", ".sh", ".json"}

Finding = tuple[Path, int, str]


def files() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def room_of(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "rft" and len(parts) > 2 else parts[0]


def check_includes(path: Path, lines: list[str]) -> Iterator[Finding]:
    room = room_of(path.relative_to(ROOT).as_posix())
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        included = match[1]
        if room in TORCH_FREE and TORCH.match(included):
            yield path, number, f"{room} does not include torch ({included}); see CONTRIBUTING.md, rooms"
        if room not in {"bindings", "tests", "examples"} and PYTHON.match(included):
            yield path, number, f"only bindings/ includes Python ({included})"
        target = room_of(included)
        if room in ROOMS and target != room and (target in ROOMS or target == "rft/run") and target not in ROOMS[room]:
            yield path, number, f"{room} may not include {target} ({included}); see CONTRIBUTING.md, rooms"


def check_text(path: Path, lines: list[str]) -> Iterator[Finding]:
    if path.suffix in SOURCES and len(lines) > MAX_LINES:
        yield path, len(lines), f"{len(lines)} lines; split it (at most {MAX_LINES}, 60-200 is usual)"
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            yield path, number, "unfinished work; finish it or write an issue"
        if MACHINE_PATH.search(line):
            yield path, number, "a path of one machine"
        if line != line.rstrip():
            yield path, number, "white space at the end of the line"
        if "\t" in line and path.suffix != ".json":
            yield path, number, "a tab"


def check_parses(path: Path, text: str) -> Iterator[Finding]:
    try:
        if path.suffix in {".yaml", ".yml"}:
            list(yaml.safe_load_all(text))
        elif path.suffix in {".json", ".ipynb"}:
            json.loads(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        yield path, mark.line + 1 if mark else 1, f"not YAML: {error}"
    except json.JSONDecodeError as error:
        yield path, error.lineno, f"not JSON: {error.msg}"


def findings() -> Iterator[Finding]:
    for path in files():
        # Test data is allowed to be broken: that is what it is for.
        if "testdata" in path.parts or path.suffix not in TEXT | {".ipynb"}:
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        yield from check_parses(path, text)
        if path.suffix in TEXT:
            yield from check_text(path, lines)
        if path.suffix in {".h", ".cc"}:
            yield from check_includes(path, lines)


def main() -> int:
    count = 0
    for path, line, message in findings():
        print(f"{path.relative_to(ROOT)}:{line}: {message}")
        count += 1
    print(f"lint: {count} finding(s)" if count else "lint: clean", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
