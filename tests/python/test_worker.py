"""The worker of Python graders, spoken to over its pipes; and how functions are sent to it."""

import base64
import json
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "bindings" / "python"


class Worker:
    """A worker process and the parent's side of the protocol."""

    def __init__(self, function: dict, **init):
        env = dict(os.environ, PYTHONPATH=str(PACKAGE))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rft._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        self.send({"function": function, "label": "g", **init})
        self.first = self.receive()

    def send(self, message):
        payload = json.dumps(message).encode()
        self.process.stdin.write(struct.pack("<I", len(payload)) + payload)
        self.process.stdin.flush()

    def receive(self):
        (length,) = struct.unpack("<I", self.process.stdout.read(4))
        return json.loads(self.process.stdout.read(length))

    def grade(self, completion="", row=None, **fields):
        item = {"id": 5, "row": json.dumps(row or {}), "completion": completion, "token_ids": [1, 2], "finish_reason": "stop"}
        self.send({"items": [{**item, **fields}]})
        reply = self.receive()
        assert reply.pop("id") == 5
        return reply

    def close(self):
        self.process.stdin.close()
        try:
            return self.process.wait(timeout=10)
        finally:
            self.process.kill()
            self.process.stdout.close()
            self.process.stderr.close()


@pytest.fixture
def start(tmp_path):
    """start(source) runs a worker on the function `f` of that source."""
    workers = []

    def start_worker(source, name="f", **init):
        path = tmp_path / "my_graders.py"
        path.write_text(textwrap.dedent(source))
        workers.append(Worker({"file": str(path), "name": name}, **init))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.close()


def test_ends_quietly_when_the_parent_is_done(start):
    worker = start("def f(completion): return 1")
    assert worker.first["ready"]
    assert worker.close() == 0


@pytest.mark.parametrize(
    ("returned", "reply"),
    [
        ("1", {"score": 1.0}),
        ("True", {"score": 1.0}),
        ("0.25", {"score": 0.25}),
        ("__import__('decimal').Decimal('0.5')", {"score": 0.5}),
        ("__import__('fractions').Fraction(1, 4)", {"score": 0.25}),
        ("None", {"abstain": "f returned None"}),
        ("{'score': 1, 'reason': 'good'}", {"score": 1.0, "reason": "good", "sub_scores": {}}),
        ("{'score': 1, 'sub_scores': {'a': 2}}", {"score": 1.0, "reason": "", "sub_scores": {"a": 2.0}}),
        ("{'score': None, 'reason': 'unclear'}", {"abstain": "unclear"}),
        ("{'a': 1, 'b': 0.5}", {"score": 1.5, "sub_scores": {"a": 1.0, "b": 0.5}}),
        ("'1'", {"error": "f returned str ('1'), not a number; return a number, a bool, a list with one per turn, a dict or None"}),
        ("1j", {"error": "f returned complex (1j), not a number; return a number, a bool, a list with one per turn, a dict or None"}),
        ("[1, 0.25]", {"score": 1.25, "reason": "", "sub_scores": {}, "turn_scores": [1.0, 0.25]}),
        ("{'score': 2, 'turn_scores': (1, 0)}", {"score": 2.0, "reason": "", "sub_scores": {}, "turn_scores": [1.0, 0.0]}),
        ("{'score': 0, 'token_advantages': [0.5]}", {"score": 0.0, "reason": "", "sub_scores": {}, "token_advantages": [0.5]}),
        ("__import__('rft').Grade(1, turn_scores=[0.5])", {"score": 1.0, "reason": "", "sub_scores": {}, "turn_scores": [0.5]}),
        ("[1, 'x']", {"error": "f returned turn_scores[1]: str ('x'), not a number"}),
        ("[]", {"error": "f returned turn_scores of type list, not a list of at least one number"}),
        ("float('nan')", {"error": "f returned nan; a score must be finite"}),
        ("{'score': 'high'}", {"error": "f returned the score str ('high'), not a number"}),
        ("{'score': 1, 'sub_scores': {'a': 'x'}}", {"error": "f returned the sub-score 'a': str ('x'), not a number"}),
        ("{'score': 1, 'sub_scores': 3}", {"error": "f returned sub_scores of type int, not a dict"}),
        ("{'score': 1, 'resaon': ''}", {"error": "f returned unknown keys ['resaon'] beside \"score\"; known: reason, sub_scores, turn_scores, token_advantages"}),
        ("{'a': 'x'}", {"error": "f returned 'a': str ('x'), not a number"}),
        ("{}", {"error": 'f returned an empty dict; give it a "score" or named parts'}),
    ],
)
def test_turns_what_a_function_returns_into_a_reply(start, returned, reply):
    assert start(f"def f(completion): return {returned}").grade() == reply


@pytest.mark.parametrize("returned", ["np.float32(0.5)", "np.array(0.5)", "np.bool_(True) * 0.5"])
def test_takes_numpy_scalars(start, returned):
    assert start(f"import numpy as np\ndef f(): return {returned}").grade()["score"] == 0.5


def test_passes_what_the_function_names(start):
    worker = start(
        """
        def f(finish_reason, row, token_ids, completion, *, answer, sample, item, unit="m", **rest):
            assert (finish_reason, token_ids, completion) == ("stop", [1, 2], "hi")
            assert row == item == {"answer": 4, "level": "easy"} and sample["output_text"] == "hi"
            assert rest == {"level": "easy"}
            return answer
        """
    )
    assert worker.grade("hi", {"answer": 4, "level": "easy"}) == {"score": 4.0}


def test_passes_positional_only_parameters(start):
    assert start("def f(completion, /, answer, scale=2): return answer * scale").grade("x", {"answer": 3}) == {"score": 6.0}


def test_names_a_parameter_nobody_provides(start):
    error = start("def f(answr): return 1").grade("x", {"answer": 4, "level": 1})["error"]
    assert error.startswith("f asks for 'answr', which is neither one of completion, row,")
    assert error.endswith("nor a column of the row (columns: answer, level)")


def test_reports_an_exception_with_the_users_frames_only(start):
    error = start("def f(completion):\n    return helper()\n\ndef helper():\n    raise KeyError('x')\n").grade()["error"]
    assert error.startswith("f raised KeyError: 'x'")
    assert "my_graders.py:2 in f: return helper()" in error and "my_graders.py:5 in helper" in error
    assert "_worker.py" not in error


def test_keeps_one_event_loop_for_async_functions(start):
    worker = start(
        """
        import asyncio
        loops = set()
        async def f(completion):
            await asyncio.sleep(0)
            loops.add(id(asyncio.get_running_loop()))
            return len(loops)
        """
    )
    assert [worker.grade()["score"] for _ in range(3)] == [1.0, 1.0, 1.0]


def test_keeps_prints_and_input_away_from_the_protocol(start):
    worker = start(
        """
        import os, sys
        print("while loading")
        def f(completion):
            print("to stdout"); os.write(1, b"raw"); print("to stderr", file=sys.stderr)
            return len(sys.stdin.read())
        """
    )
    assert worker.first["ready"]
    assert worker.grade() == {"score": 0.0}
    worker.process.stdin.close()
    printed = worker.process.stderr.read().decode()
    assert all(part in printed for part in ("while loading", "to stdout", "raw", "to stderr"))


def test_imports_modules_beside_the_file_and_on_sys_path(start, tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 1")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "far.py").write_text("VALUE = 2")
    worker = start("import beside, far\ndef f(): return beside.VALUE + far.VALUE", sys_path=[str(tmp_path / "lib")])
    assert worker.grade() == {"score": 3.0}


def test_says_why_a_function_can_not_be_loaded(start):
    assert "has no function named 'g'; its functions: f" in start("def f(): return 1", name="g").first["failed"]
    assert "ZeroDivisionError" in start("1 / 0").first["failed"]


def test_survives_reasons_that_are_not_text(start):
    reply = start(r"def f(): return {'score': 1, 'reason': '\ud800' + 'x' * 100000}").grade()
    assert reply["score"] == 1.0 and len(reply["reason"]) < 20000 and reply["reason"].startswith("?")


def test_starts_without_torch_and_without_the_extension(start):
    worker = start("import sys\ndef f(): return float(any(m in sys.modules for m in ('torch', 'numpy', 'rft._rft')))")
    assert worker.grade() == {"score": 0.0}


# ---------------------------------------------------------------- @rft.grader and grader_spec


@pytest.fixture
def graders():
    sys.path.insert(0, str(PACKAGE))
    try:
        import rft.graders

        yield rft.graders
    finally:
        sys.path.remove(str(PACKAGE))


def test_the_decorator_returns_the_function_itself_with_its_marks(graders):
    @graders.grader(weight=0.5, deadline_s=2, name="short")
    def brevity(completion):
        return 1.0

    assert brevity("x") == 1.0
    spec = graders.grader_spec(brevity)
    assert (spec["name"], spec["type"], spec["weight"], spec["deadline_s"]) == ("short", "python", 0.5, 2.0)


def test_a_function_of_a_module_is_named_by_its_file(graders, tmp_path, monkeypatch):
    (tmp_path / "rewards_of_mine.py").write_text("def exact(completion): return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import rewards_of_mine

    params = graders.grader_spec(rewards_of_mine.exact)["params"]
    assert params["function"] == f"{tmp_path / 'rewards_of_mine.py'}:exact" and "pickle" not in params
    assert str(tmp_path) in json.loads(params["sys_path"])


def test_a_closure_is_sent_pickled_and_runs_in_a_worker(graders):
    limit = 3

    @graders.grader
    def short(completion):
        return len(completion) <= limit

    spec = graders.grader_spec(short)
    worker = Worker({"pickle": spec["params"]["pickle"]}, sys_path=json.loads(spec["params"]["sys_path"]))
    assert worker.first["ready"]
    assert [worker.grade("abc")["score"], worker.grade("abcd")["score"]] == [1.0, 0.0]
    worker.close()


def test_a_function_of_the_main_program_is_not_named_by_file(graders, tmp_path):
    script = tmp_path / "run.py"
    script.write_text("import rft.graders\ndef f(completion): return 1\nprint(sorted(rft.graders.grader_spec(f)['params']))")
    out = subprocess.run([sys.executable, str(script)], env=dict(os.environ, PYTHONPATH=str(PACKAGE)), capture_output=True, text=True)
    assert "'pickle'" in out.stdout and "'function'" not in out.stdout, out.stderr


def test_a_lambda_has_a_name(graders):
    assert graders.grader_spec(lambda completion: 1.0)["name"] == "lambda"


def test_only_functions_can_be_graders(graders):
    with pytest.raises(TypeError, match="must be a function, not int"):
        graders.grader_spec(3)
    with pytest.raises(TypeError, match="marks functions, not str"):
        graders.grader("exact")


def test_a_pickle_that_can_not_be_loaded_is_reported():
    worker = Worker({"pickle": base64.b64encode(b"nonsense").decode()})
    assert "loading the function raised" in worker.first["failed"]
    worker.close()


def test_gives_the_whole_conversation(start):
    worker = start("def f(messages): return float(messages == [{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': 'a'}])")
    assert worker.grade("a", {"messages": [{"role": "user", "content": "q"}]}) == {"score": 1.0}
