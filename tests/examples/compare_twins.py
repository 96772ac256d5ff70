"""Runs the examples' C++ programs and their Python twins on a tiny model: what they print, and the metrics of the run, are
the same to the byte (times aside).

    python compare_twins.py ARITHMETIC_PROGRAM ONE_FILE_LOOP_PROGRAM
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from conftest import make_model  # noqa: E402

from rft.tasks import arithmetic  # noqa: E402


def run(folder: Path, *command: object) -> str:
    """What the program prints, run in `folder`; its messages where it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    if done.returncode != 0:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def untimed_metrics(folder: Path) -> list[str]:
    """metrics.jsonl without what a clock measured."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if not lines:
        sys.exit(f"{folder}: no metrics")
    return [json.dumps({key: value for key, value in line.items() if key != "seconds" and not key.endswith("_s") and "_per_s" not in key}) for line in lines]


def compare(what: str, cpp: object, python: object) -> None:
    """Exits with both sides where they differ."""
    if cpp != python:
        sys.exit(f"{what} differ:\nC++:    {cpp}\nPython: {python}")


def main() -> None:
    """Both pairs."""
    arithmetic_program, loop_program = (Path(program).resolve() for program in sys.argv[1:3])
    with tempfile.TemporaryDirectory(prefix="rft-twins-") as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model", "llama")
        train, _ = arithmetic.generate(folder / "data", 0, 64, 8, shots=0)
        for side, command in (("cpp", [arithmetic_program]), ("python", [sys.executable, ROOT / "examples/01_arithmetic/run.py"])):
            config = folder / f"{side}.yaml"
            config.write_text(json.dumps({
                "name": "twins", "model": str(model), "run_dir": str(folder / side), "data": {"train": str(train)},
                "graders": [{"name": "any", "type": "regex_match", "pattern": "[0-9]"}],
                "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 6}, "trainer": {"steps": 2, "dtype": "fp32"}}))
            run(folder, *command, config)
        compare("the metrics of run.cc and run.py", untimed_metrics(folder / "cpp"), untimed_metrics(folder / "python"))
        loop = [loop_program, model, train, 2]
        if run(folder, *loop).count("step ") != 2:
            sys.exit("one_file_loop did not print two steps")
    print("twins agree")


if __name__ == "__main__":
    main()
