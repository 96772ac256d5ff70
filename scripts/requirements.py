"""Prints the requirement lists of pyproject.toml, one requirement a line: `requirements.py runtime|dev|structured|adapters|torch`.

pip can read them from there only together with a build of the project; scripts/setup.sh needs them before that.
Standard library only: it runs before anything is installed.
"""

import sys
import tomllib
from pathlib import Path


def requirements(name: str) -> list[str]:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    runtime: list[str] = project["dependencies"]
    lists = {
        "torch": [line for line in runtime if line.startswith("torch==")],
        "runtime": runtime,
        "structured": project["optional-dependencies"]["structured"],
        "dev": project["optional-dependencies"]["dev"],
        "adapters": project["optional-dependencies"]["adapters"],
    }
    return lists[name]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print("\n".join(requirements(name)))
