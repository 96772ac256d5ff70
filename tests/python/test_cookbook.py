"""Every grader of docs/graders.md's cookbook gives its rows the scores written there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from rft import _native
from rft.grading import make_spec

DOC = Path(__file__).resolve().parents[2] / "docs" / "graders.md"
RECIPE = re.compile(r"\*\*(\d+)\. ([^\n]*?)\*\*\n```(yaml|python)\n(.*?)```\n```jsonl\n(.*?)```", re.DOTALL)
RECIPES = RECIPE.findall(DOC.read_text(encoding="utf-8").split("## Cookbook")[1])


def test_the_cookbook_has_twelve_recipes() -> None:
    assert [int(number) for number, *_ in RECIPES] == list(range(1, 13))


@pytest.mark.parametrize(("language", "text", "rows"), [recipe[2:] for recipe in RECIPES], ids=[recipe[1] for recipe in RECIPES])
def test_a_recipe_gives_its_rows_their_scores(language: str, text: str, rows: str, tmp_path: Path) -> None:
    entry = yaml.safe_load(text) if language == "yaml" else {"type": "python", "function": f"{tmp_path / 'recipe.py'}:{name_in(text)}"}
    (tmp_path / "recipe.py").write_text(text, encoding="utf-8")
    lines = [json.loads(line) for line in rows.splitlines()]
    expected = [line.pop("score") for line in lines]
    given = _native.load().grade_rows([make_spec(entry, str(tmp_path))], [json.dumps(line) for line in lines],
                                      [line["completion"] for line in lines])
    assert [one[0]["score"] for one in given] == [None if score is None else pytest.approx(score) for score in expected], given


def name_in(text: str) -> str:
    """The function or class a recipe defines."""
    found = re.search(r"^(?:async )?(?:def|class) (\w+)", text, re.MULTILINE)
    assert found is not None
    return found[1]
