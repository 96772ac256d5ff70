"""What crosses the border between Python and C++: errors, arrays, callbacks, and that the stub says what is there."""

from __future__ import annotations

import ast
import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rft
from rft import _native

EXTENSION = _native.load()
STUB = ast.parse((Path(rft.__file__).parent / "_rft.pyi").read_text())


# --- The stub ------------------------------------------------------------------------------------------------------------
def stub_members() -> list[tuple[str, ast.FunctionDef | None]]:
    """("Engine.generate", its declaration) for all of the stub; None for plain attributes."""
    found: list[tuple[str, ast.FunctionDef | None]] = []
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, node))
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    found.append((f"{node.name}.{member.name}", member))
                elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    found.append((f"{node.name}.{member.target.id}", None))
    return found


@pytest.mark.parametrize(("name", "declared"), stub_members(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_the_stub_declares_exists_with_these_arguments(name: str, declared: ast.FunctionDef | None) -> None:
    found: Any = EXTENSION
    for part in name.split("."):
        found = getattr(found, part)
    if declared is None or any(isinstance(d, ast.Name) and d.id == "property" for d in declared.decorator_list):
        return
    signature, keywords = found.__doc__.splitlines()[0], found.__doc__
    for argument in [*declared.args.args, *declared.args.kwonlyargs]:
        known = f"{argument.arg}:" in signature or ("**kwargs" in signature and f"{argument.arg}=" in keywords)
        assert known, (argument.arg, found.__doc__)


def test_what_exists_is_in_the_stub() -> None:
    declared = {name for name, _ in stub_members()} | {node.name for node in STUB.body if isinstance(node, ast.ClassDef)}
    public = {name for name in vars(EXTENSION) if not name.startswith("_")}
    members = {f"{name}.{member}" for name in public if isinstance(getattr(EXTENSION, name), type)
               and not issubclass(getattr(EXTENSION, name), BaseException)
               for member in vars(getattr(EXTENSION, name)) if not member.startswith("_")}
    assert (public | members) - declared == set()


def test_a_name_that_an_older_build_lacks_says_to_build() -> None:
    for module in (_native, EXTENSION):
        with pytest.raises(AttributeError, match="has no NewThing; it is older than this Python package: run `make build`"):
            module.NewThing  # noqa: B018


def test_everything_public_has_a_docstring_and_classes_a_repr_of_their_own() -> None:
    for name, value in vars(EXTENSION).items():
        if name.startswith("_"):
            continue
        assert value.__doc__, name
        if isinstance(value, type) and not issubclass(value, BaseException):
            assert "__repr__" in vars(value), name


# --- Errors --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "built_in", "code"), [
    ("ConfigError", ValueError, "INVALID_ARGUMENT"), ("NotFoundError", FileNotFoundError, "NOT_FOUND"),
    ("ResourceError", MemoryError, "RESOURCE_EXHAUSTED"), ("StateError", RuntimeError, "FAILED_PRECONDITION"),
    ("DeadlineError", TimeoutError, "DEADLINE_EXCEEDED"), ("DataLossError", RuntimeError, "DATA_LOSS")])
def test_each_error_is_also_the_built_in_one(name: str, built_in: type[Exception], code: str) -> None:
    error = getattr(rft, name)
    assert issubclass(error, rft.Error) and issubclass(error, built_in)
    assert error.code == code and error.__module__ == "rft" and str(error("why")) == "why"


def test_a_missing_file_is_a_file_not_found_error() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl") as caught:
        rft.read_dataset("nowhere.jsonl")
    assert isinstance(caught.value, rft.NotFoundError) and caught.value.code == "NOT_FOUND"


def test_all_mistakes_of_a_configuration_come_together() -> None:
    with pytest.raises(rft.ConfigError, match=r"(?s)losses.clip_hihg.*clip_high.*trainer.steps"):
        rft.RunConfig.from_json('{"model": "m", "losses": {"clip_hihg": 1},\n "trainer": {"steps": 0}, "data": {"train": "t"}}',
                                check_paths=False)


def test_an_unknown_loss_in_a_configuration_lists_the_known_ones() -> None:
    with pytest.raises(rft.ConfigError, match="grpoo.*gspo-token"):
        rft.RunConfig.from_json('{"model": "m", "data": {"train": "t"}, "losses": {"name": "grpoo"}}', check_paths=False)


# --- Configuration -------------------------------------------------------------------------------------------------------
def config(**settings: Any) -> rft.RunConfig:
    return rft.RunConfig.from_json(json.dumps({"model": "m", "data": {"train": "t"}, **settings}), check_paths=False)


def test_values_of_a_configuration_have_python_types() -> None:
    made = config(trainer={"steps": 7}, graders=[{"type": "regex_match", "pattern": "a", "weight": 0.5}])
    assert made.get("trainer.steps") == 7 and made.get("graders.0.weight") == 0.5 and made.get("losses")["name"] == "grpo"
    assert "7 steps" in repr(made)


def test_an_unknown_key_suggests_the_right_one() -> None:
    with pytest.raises(rft.ConfigError, match=r"trainer.stpes.*did you mean trainer.steps"):
        config().get("trainer.stpes")


def test_the_resolved_text_reads_back_equal() -> None:
    made = config(rollout={"group_size": 3})
    assert rft.RunConfig.from_json(made.to_json(), check_paths=False).to_json() == made.to_json()


def test_the_schema_is_json() -> None:
    assert "trainer" in json.loads(rft.RunConfig.schema())["properties"]


# --- Arrays --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [list, np.array, lambda x: np.array(x, np.int64), torch.tensor, tuple])
def test_a_datum_takes_lists_arrays_and_tensors(make: Any) -> None:
    datum = rft.Datum(make([1, 2, 3]), make([0, 1, 1]))
    assert datum.ids.dtype == np.int32 and datum.ids.tolist() == [1, 2, 3]
    assert datum.weights.dtype == np.float32 and datum.weights.tolist() == [0, 1, 1]
    assert len(datum) == 3 and repr(datum) == "<rft.Datum 3 tokens, 2 trained on>"


@pytest.mark.parametrize(("ids", "problem"), [
    ([1.5], "whole numbers"), ([[1]], "one dimension"), ("abc", "one dimension|whole numbers"), ([2**40], "32 bits"), ([None], "whole numbers")])
def test_ids_that_are_no_ids_are_refused(ids: Any, problem: str) -> None:
    with pytest.raises(rft.ConfigError, match=f"ids.*({problem})"):
        rft.Datum(ids, [0])


def test_vectors_are_read_only_copies_and_can_be_assigned() -> None:
    datum = rft.Datum([1, 2], [0, 1])
    with pytest.raises(ValueError, match="read-only"):
        datum.weights[0] = 1
    datum.advantages = np.array([0, 2.5])
    assert datum.advantages.tolist() == [0, 2.5]


# --- Codec ---------------------------------------------------------------------------------------------------------------
def codec(encode: Any = lambda text: [len(text)]) -> rft.TextCodec:
    return rft.TextCodec(lambda messages: [len(messages)], encode, [b"a", b"\xc3", b"\xa4", b"<end>"], [False, False, False, True], [3])


def test_a_codec_decodes_without_python() -> None:
    assert codec().decode([0, 1, 2, 3]) == "a\u00e4" and codec().decode([1, 0]) == "\ufffda"
    assert codec().encode_chat([{"role": "user", "content": "x"}]) == [1] and codec().encode("four") == [4]


def test_what_the_tokenizer_raises_is_in_the_message() -> None:
    def broken(text: str) -> list[int]:
        raise FileNotFoundError("vocabulary of " + text)

    with pytest.raises(rft.NotFoundError, match="encode: FileNotFoundError: vocabulary of x"):
        codec(broken).encode("x")


def test_tables_of_different_lengths_are_refused() -> None:
    with pytest.raises(rft.ConfigError, match="2 entries and is_special 1"):
        rft.TextCodec(lambda m: [], lambda t: [], [b"a", b"b"], [False], [])


# --- Graders -------------------------------------------------------------------------------------------------------------
def test_rows_are_graded_without_a_model() -> None:
    [[good], [bad]] = rft.grade_rows([{"type": "regex_match", "params": {"pattern": "[0-9]+"}, "name": "digits"}],
                                     ['{"answer": "1"}', '{"answer": "2"}'], ["12", "none"])
    assert good["grader"] == "digits" and good["kind"] == "score" and good["score"] == 1.0 and bad["score"] == 0.0
    assert 0 <= good["seconds"] < 1


def test_mistakes_in_grader_dicts_name_the_key() -> None:
    with pytest.raises(rft.ConfigError, match=r"graders\[0\].wieght.*did you mean weight"):
        rft.grade_rows([{"type": "regex_match", "wieght": 1}], [], [])
    with pytest.raises(rft.ConfigError, match="1 rows and 0 completions"):
        rft.grade_rows([], ["{}"], [])


# --- Losses --------------------------------------------------------------------------------------------------------------
def packed(n: int = 4) -> dict[str, Any]:
    return {"logprobs_T": torch.full((n,), -1.0, dtype=torch.float64, requires_grad=True),
            "old_logprobs_T": torch.full((n,), -1.0, dtype=torch.float64), "sampling_logprobs_T": None, "ref_logprobs_T": None,
            "advantages_T": torch.ones(n, dtype=torch.float64), "mask_T": torch.ones(n, dtype=torch.float64), "row_offsets": [0, 2, n]}


def test_a_registered_loss_runs_on_torch_tensors_with_its_gradient() -> None:
    given = packed()
    out = EXTENSION.loss_forward("dapo", **given)
    (out["sum"] / out["denominator"]).backward()
    assert out["num_tokens"] == 4 and out["denominator"] == 4
    np.testing.assert_allclose(given["logprobs_T"].grad, [-0.25] * 4)


def test_an_unknown_knob_suggests_the_right_one() -> None:
    with pytest.raises(rft.ConfigError, match="clip_hihg.*did you mean clip_high"):
        EXTENSION.loss_forward("grpo", **packed(), clip_hihg=0.3)
    with pytest.raises(rft.ConfigError, match=r"correction.level.*did you mean token"):
        EXTENSION.loss_forward("grpo", **packed(), correction={"level": "tokn"})
    with pytest.raises(rft.ConfigError, match="unknown loss 'grop'; did you mean 'grpo'"):
        EXTENSION.loss_forward("grop", **packed())


def test_a_shape_mismatch_is_a_config_error_naming_the_tensor() -> None:
    with pytest.raises(rft.ConfigError, match="mask_T"):
        EXTENSION.loss_forward("grpo", **{**packed(), "mask_T": torch.ones(3, dtype=torch.float64)})


# --- Engine and trainer callbacks ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def model(llama_dir: Path) -> rft.Model:
    return rft.Model.load(str(llama_dir), dtype="fp32")


class Stop(Exception):
    pass


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """The engine counts what is running once per iteration, a moment after the last completion is out."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.01)


def test_tokens_arrive_in_order_and_are_those_of_the_completion(model: rft.Model) -> None:
    seen: dict[tuple[int, int], list[int]] = {}
    threads = set()

    def on_token(prompt: int, sample: int, token: int, logprob: float) -> None:
        assert logprob <= 0
        threads.add(threading.get_ident())
        seen.setdefault((prompt, sample), []).append(token)

    engine = rft.Engine(model)
    done = engine.generate([[5, 6], [7]], n=2, max_tokens=6, on_token=on_token, ignore_eos=True)
    engine.close()
    assert threads == {threading.get_ident()}
    assert seen == {(p, s): done[p][s].ids.tolist() for p in range(2) for s in range(2)}
    assert done[0][0].finish_reason == "length" and done[0][0].logprobs.dtype == np.float32


def test_on_token_ends_the_group_that_it_says_and_no_other(model: rft.Model) -> None:
    with rft.Engine(model, check_invariants=True) as engine:
        ended, whole = engine.generate([[5, 6], [7]], n=2, max_tokens=200, ignore_eos=True,
                                       on_token=lambda prompt, sample, *_: prompt == 0 and sample == 1)
        wait_until(lambda: engine.stats()["pages_used"] == 0)
    assert [sample.finish_reason for sample in ended] == ["cancelled"] * 2
    assert all(1 <= len(sample) < 200 for sample in ended)
    assert [sample.finish_reason for sample in whole] == ["length"] * 2


def test_a_salt_keeps_pages_apart(model: rft.Model) -> None:
    prompt = [5, 6, 7, 8] * 12

    def hits(salt: str) -> int:
        before = engine.stats()["prefix_hit_tokens"]
        engine.generate([prompt], max_tokens=1, cache_salt=salt)
        return int(engine.stats()["prefix_hit_tokens"] - before)

    with rft.Engine(model) as engine:
        assert [hits(salt) for salt in ("", "a", "b", "a", "")] == [0, 0, 0, 32, 32]


def test_what_on_token_raises_ends_the_call_and_leaves_nothing_running(model: rft.Model) -> None:
    error = Stop("enough")

    def on_token(*_: Any) -> None:
        raise error

    with rft.Engine(model) as engine:
        with pytest.raises(Stop) as caught:
            engine.generate([[5, 6]], n=4, max_tokens=200, on_token=on_token, ignore_eos=True)
        assert caught.value is error
        wait_until(lambda: engine.stats()["running"] == 0 and engine.stats()["waiting"] == 0)
        assert len(engine.generate([[5, 6]], max_tokens=2, ignore_eos=True)[0][0]) == 2


def test_a_deadline_that_passes_is_a_deadline_error(model: rft.Model) -> None:
    with rft.Engine(model) as engine, pytest.raises(rft.DeadlineError, match="not finished within"):
        engine.generate([[5, 6]] * 64, n=8, max_tokens=200, ignore_eos=True, deadline_s=0.0)


def test_bad_requests_name_what_is_wrong(model: rft.Model) -> None:
    with rft.Engine(model) as engine:
        with pytest.raises(rft.ConfigError, match="prompt"):
            engine.generate([[]])
        with pytest.raises(rft.ConfigError, match="top_p"):
            engine.generate([[5]], top_p=0.0)
    with pytest.raises(rft.StateError):
        engine.generate([[5]])
    assert repr(engine) == "<rft.Engine closed>"


def test_datums_that_are_no_list_of_datums_are_a_type_error_that_says_so(model: rft.Model) -> None:
    trainer, datum = rft.Trainer(model), rft.Datum([1, 2], [0.0, 1.0])
    calls: list[tuple[Any, str]] = [(datum, r"got one Datum; a list is expected: \[datum\]"), ([datum, 3], r"datums\[1\]: expected a Datum, got int"),
                                    (7, "expected a list of Datum, got int")]
    for datums, words in calls:
        for verb in (trainer.forward, trainer.forward_backward, trainer.describe, trainer.forward_backward_preference):
            with pytest.raises(TypeError, match=words):
                verb(datums)
    assert len(trainer.forward((datum,))) == 1  # a tuple is as good


def test_what_a_custom_loss_raises_comes_back_and_changes_nothing(model: rft.Model) -> None:
    trainer = EXTENSION.Trainer(model)
    datums = [rft.Datum([5, 6, 7], [0, 1, 1])]
    error = Stop("no")

    def raises(_: list[np.ndarray]) -> None:
        raise error

    with pytest.raises(Stop) as caught:
        trainer.forward_backward_custom(datums, raises)
    assert caught.value is error
    with pytest.raises(rft.StateError):
        trainer.optim_step()
    with pytest.raises(TypeError, match="must return"):
        trainer.forward_backward_custom(datums, lambda rows: 1.0)
    with pytest.raises(rft.ConfigError, match=r"dlogprobs\[0\] has 1 entries, the datum has 3 tokens"):
        trainer.forward_backward_custom(datums, lambda rows: (0.0, [np.zeros(1)]))
    with pytest.raises(rft.StateError, match="called the trainer"):
        trainer.forward_backward_custom(datums, lambda rows: trainer.forward(datums))


def test_forward_agrees_with_the_sampler(model: rft.Model) -> None:
    with rft.Engine(model) as engine:
        done = engine.generate([[5, 6, 7]], max_tokens=8, ignore_eos=True)[0][0]
    ids = [5, 6, 7, *done.ids.tolist()]
    [scored] = EXTENSION.Trainer(model).forward([rft.Datum(ids, [0, 0, 0] + [1] * 8)])
    assert scored[:3].tolist() == [0, 0, 0] and math.isclose(float(np.abs(scored[3:] - done.logprobs).max()), 0, abs_tol=1e-4)


def test_parameters_are_copies_with_their_shape(model: rft.Model) -> None:
    name = model.parameter_names()[0]
    copy = model.parameter(name)
    copy[...] = 7
    assert copy.ndim == 2 and not np.array_equal(model.parameter(name), copy)
    with pytest.raises(rft.ConfigError, match="did you mean"):
        model.parameter(name + "x")


def test_a_wrong_dtype_lists_the_right_ones(llama_dir: Path) -> None:
    with pytest.raises(rft.ConfigError, match="'int4' is not one of bf16, fp32, int8"):
        rft.Model.load(str(llama_dir), dtype="int4")


def test_build_info_and_registered_say_what_is_there() -> None:
    info, known = rft.build_info(), rft.registered()
    assert info["version"] == rft.__version__ and info["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert info["threads"] >= 1 and info["kernel"] in ("amx", "avx512bf16", "avx512", "avx2", "portable")
    assert {"grpo", "dapo", "gspo-token"} <= set(known["losses"]) and {"regex_match", "python"} <= set(known["graders"])
    assert "LlamaForCausalLM" in known["models"] and {"http", "local"} <= set(known["engines"])


@pytest.mark.parametrize("prompts", ["hello", [3, 4]])
def test_prompts_that_are_not_lists_of_ids_are_a_type_error(model: rft.Model, prompts: Any) -> None:
    with pytest.raises(TypeError, match=r"a list of prompts, each a list of token ids: generate\(\[ids, \.\.\.\]\)"):
        rft.Engine(model).generate(prompts)


def test_a_misspelt_argument_of_generate_is_told_what_was_meant(model: rft.Model) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'temperatur'; did you mean temperature?"):
        rft.Engine(model).generate([[3]], temperatur=0.5)  # type: ignore[call-arg]
    with pytest.raises(rft.ConfigError, match="deadline_s: must be at least 0"):
        rft.Engine(model).generate([[3]], deadline_s=-1.0)


def test_folders_may_be_paths(model: rft.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "copy", dtype="fp32")
    assert rft.Model.load(tmp_path / "copy", dtype="fp32").vocab_size == model.vocab_size
    trainer = rft.Trainer(model)
    trainer.save_state(tmp_path / "state")
    trainer.load_state(tmp_path / "state")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "a"}]}\n')
    assert len(_native.load().read_dataset(rows)) == 1
