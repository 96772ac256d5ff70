"""`rft check parity`: it reports zero, and it would notice if it were not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import rft
from rft import _native
from rft.bench import Row, largest, row
from rft.bench.check_parity import CASES, Subject, worse
from rft.bench.parity_families import FAMILIES
from rft.cli import app


def test_every_model_that_can_be_loaded_is_a_family() -> None:
    assert {config["architectures"][0] for config in FAMILIES.values()} == set(_native.load().registered()["models"])


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_requests_that_join_and_leave_are_exactly_zero_in_every_family(family: str, dtype: str) -> None:
    model = rft.Model.create(json.dumps(FAMILIES[family]), dtype=dtype, seed=1)
    assert CASES["joins-and-leaves"](Subject(_native.load(), model, 5)) == 0.0
    rft.set_threads(0)


def test_every_case_of_a_family_is_exactly_zero() -> None:
    result = CliRunner().invoke(app, ["check", "parity", "--family", "llama", "--only", "bf16"])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert [r["name"] for r in rows] == [f"parity/llama/{case}-bf16" for case in CASES]
    assert all(r["ours"] == 0.0 for r in rows)


def test_one_bit_in_one_token_is_noticed() -> None:
    model = rft.Model.create(json.dumps(FAMILIES["qwen3"]), dtype="fp32", seed=1)
    subject = Subject(_native.load(), model, 0)
    requests = subject.requests(6)
    subject.sample(requests)
    assert subject.difference(requests) == 0.0
    one = requests[3].completions[0]
    changed = np.array(one.logprobs)
    changed[-1] = np.nextafter(changed[-1], np.float32(0))
    requests[3].completions[0] = SimpleNamespace(ids=one.ids, logprobs=changed)
    assert subject.difference(requests) > 0.0
    rft.set_threads(0)


def test_a_number_that_is_none_is_not_zero() -> None:
    assert np.isnan(worse(0.0, float("nan"))) and np.isnan(worse(float("nan"), 0.0))
    assert np.isnan(largest([0.0, float("nan"), 1.0])) and largest([0.0, 1.0]) == 1.0


@pytest.mark.parametrize(("rows", "failed"), [
    ([row("good", 0.0, None, "nats", 0.0), row("at-the-limit", 0.1, None, "nats", 0.1)], ""),
    ([row("bad", 1e-9, None, "nats", 0.0), row("good", 0.0, None, "nats", 0.0), row("none", float("nan"), None, "nats", 1.0)],
     "2 of 3 rows did not pass: bad, none"),
    ([row("too-few", 0.0, None, "score", 0.0, passed=False)], "1 of 1 rows did not pass: too-few"),
    ([], "nothing was compared")])
def test_a_check_that_failed_says_so_after_all_rows(rows: list[Row], failed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.bench.run", lambda *_: iter(rows))
    result = CliRunner().invoke(app, ["check", "parity"])
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == [one["name"] for one in rows]
    assert result.exit_code == (1 if failed else 0) and failed in result.stderr
    assert CliRunner().invoke(app, ["bench", "engine"]).exit_code == 0


def test_an_unknown_family_names_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["check", "parity", "--family", "gpt2"])
    assert result.exit_code == 1 and "llama" in result.output
