"""`rft check parity`: it reports zero, and it would notice if it were not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
from typer.testing import CliRunner

import rft
from rft import _native
from rft.bench.check_parity import CASES, FAMILIES, TINY, Subject, worse
from rft.cli import app


def test_every_case_of_a_family_is_exactly_zero() -> None:
    result = CliRunner().invoke(app, ["check", "parity", "--family", "llama", "--only", "bf16"])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert [r["name"] for r in rows] == [f"parity/llama/{case}-bf16" for case in CASES]
    assert all(r["ours"] == 0.0 for r in rows)


def test_one_bit_in_one_token_is_noticed() -> None:
    model = rft.Model.create(json.dumps({**TINY, **FAMILIES["qwen3"]}), dtype="fp32", seed=1)
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


def test_an_unknown_family_names_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["check", "parity", "--family", "gpt2"])
    assert result.exit_code == 1 and "llama" in result.output
