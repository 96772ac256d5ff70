"""The tests' side of the conversation (graders/sandbox/driver.py): remote objects, forms of tests, running them."""

import builtins
import json
import sys

from conversation import MODULES, Gone, Peer, SolutionError, move_standard_streams

# An object of the solution that says "yes" here would have been told the expected answer.
PREDICATES = {"startswith", "endswith", "issubset", "issuperset", "isdisjoint", "__contains__"}


class BadTests(Exception):
    """The tests are wrong, whatever the solution: not the model's fault."""


class Judge(Peer):
    prefix = b"R"

    def encode_object(self, value, kind):
        if kind is Remote:
            return {"t": "remote", "id": value._id}
        if callable(value) and not isinstance(value, type):
            return {"t": "callback", "id": self.keep(value)}
        raise TypeError(f"tests can't pass a {kind.__name__} to the solution: plain values and functions only")

    def decode_object(self, tag, value):
        if tag == "exception":
            return self.decode_exception(value)
        if tag == "remote":
            return Remote(self, value["id"], str(value["name"]))
        if tag == "module" and value["name"] in MODULES:
            return __import__(value["name"])
        raise ValueError(tag)

    def perform(self, message):
        if message["op"] != "callback":
            raise SolutionError("only functions that the tests passed can be called")
        return self.objects[message["id"]](*self.decode(message["args"]), **self.decode(message["kwargs"]))

    def receive(self):
        try:
            message = self.channel.receive()
        except (ValueError, RecursionError) as error:
            raise SolutionError(f"an answer that can't be read: {error}") from None
        if "gone" in message:
            raise Gone(message["gone"])
        return message

    def ask(self, op, target, args=(), kwargs=None, name=""):
        message = {"op": op, "id": target, "name": name, "args": self.encode(tuple(args)), "kwargs": self.encode(kwargs or {})}
        return self.request(message)


class Remote:
    """Something that lives in the solution: a function, a class, an object."""

    __slots__ = ("_id", "_judge", "_name")

    def __init__(self, judge, number, name):
        object.__setattr__(self, "_judge", judge)
        object.__setattr__(self, "_id", number)
        object.__setattr__(self, "_name", name)

    def __call__(self, *args, **kwargs):
        return self._judge.ask("call", self._id, args, kwargs)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = self._judge.ask("get", self._id, name=name)
        if type(value) is Remote and name in PREDICATES:
            raise TypeError(f"tests can't ask an object of the solution whether it {name} an expected value")
        return value

    def __setattr__(self, name, value):
        self._judge.ask("set", self._id, (value,), name=name)

    def __iter__(self):
        iterator = self._judge.ask("iter", self._id)
        return iter(iterator) if type(iterator) is not Remote else RemoteIterator(iterator)

    def __len__(self):
        return self._judge.ask("len", self._id)

    def __bool__(self):
        return self._judge.ask("bool", self._id) is True

    def __str__(self):
        return self._judge.ask("str", self._id)

    def __repr__(self):
        return self._judge.ask("repr", self._id)

    def __getitem__(self, key):
        return self._judge.ask("getitem", self._id, (key,))

    def __setitem__(self, key, value):
        return self._judge.ask("setitem", self._id, (key, value))

    def __delitem__(self, key):
        return self._judge.ask("delitem", self._id, (key,))

    def __hash__(self):
        return hash(self._id)

    def __eq__(self, other):  # with the tests' own values: never equal
        if type(other) is not Remote:
            return False
        return self._id == other._id or self._judge.ask("eq", self._id, (other,)) is True

    def __ne__(self, other):
        return not self == other

    def __enter__(self):
        return self._judge.ask("method", self._id, name="__enter__")

    def __exit__(self, *error):
        self._judge.ask("method", self._id, (None, None, None), name="__exit__")
        return False


class RemoteIterator:
    def __init__(self, remote):
        self.remote = remote

    def __iter__(self):
        return self

    def __next__(self):
        return self.remote._judge.ask("next", self.remote._id)


def _binary(name):
    def operate(self, other):
        result = self._judge.ask(name, self._id, (other,))
        if type(other) is not Remote and type(result) is not Remote:
            raise TypeError("an object of the solution gave a plain result for an operation with a value of the tests")
        return result

    return operate


def _compare(name):
    def operate(self, other):
        if type(other) is not Remote:
            return NotImplemented
        return self._judge.ask(name, self._id, (other,)) is True

    return operate


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(Remote, f"__{_name}__", _binary(_name))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Remote, f"__{_name}__", _compare(_name))


def equal(actual, expected):
    """Of a result and the dataset's JSON: sequences of one kind or another, numbers to 1e-9, True is not 1."""
    if isinstance(actual, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(actual) == len(expected) and all(map(equal, actual, expected))
    if isinstance(actual, dict) and isinstance(expected, dict):
        texts = {k if isinstance(k, str) else json.dumps(k): v for k, v in actual.items()}
        return texts.keys() == expected.keys() and all(equal(v, expected[k]) for k, v in texts.items())
    if type(actual) is float or type(expected) is float:
        if type(actual) in (int, float) and type(expected) in (int, float):
            import math

            return math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-12)
        return False
    return type(actual) is type(expected) and actual == expected


def cases_as_tests(cases, entry_point):
    def test_of(case):
        def test(names):
            args, kwargs = case["args"], case.get("kwargs", {})
            actual = names[entry_point](*args, **kwargs)
            assert equal(actual, case["expected"]), f"{entry_point}{tuple(args)!r} is {actual!r}, not {case['expected']!r}"

        return test

    return [(f"case {i + 1}", test_of(case)) for i, case in enumerate(cases)]


def statements_as_tests(statements):
    def test_of(code):
        return lambda names: exec(code, names)

    return [(f"test {i + 1}", test_of(compile(text, f"test {i + 1}", "exec"))) for i, text in enumerate(statements)]


def module_as_tests(text, entry_point):
    """A module of tests: its test_* functions, unittest classes and check(candidate); if it has none, it is one test itself."""
    import ast

    tree = ast.parse(text, "tests.py")
    code = compile(tree, "tests.py", "exec")
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and any("TestCase" in ast.unparse(b) for b in n.bases)]
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    tests = []
    loaded = []

    def load(names):
        if not loaded:
            loaded.append(True)
            exec(code, names)

    def function_test(name):
        return lambda names: (load(names), names[name]())

    def method_test(cls, method):
        def test(names):
            load(names)
            import unittest

            result = unittest.TestResult()
            names[cls](method).run(result)
            assert result.wasSuccessful() and result.testsRun == 1 and not result.skipped, str(
                (result.failures + result.errors + [("", "skipped")])[0][1]
            )[-500:]

        return test

    if "check" in functions and "check" not in called:
        if not entry_point:
            raise BadTests("the tests define check(candidate): set entry_point to the function that it checks")
        tests.append(("check", lambda names: (load(names), names["check"](names[entry_point]))))
    tests += [(name, function_test(name)) for name in functions if name.startswith("test") and name not in called]
    for cls in classes:
        methods = [n.name for n in cls.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test")]
        tests += [(f"{cls.name}.{name}", method_test(cls.name, name)) for name in methods]
    return tests or [("tests", load)]


def read_tests(job):
    entry_point = job["entry_point"]
    try:
        if job["kind"] == "cases":
            return cases_as_tests(job["tests"], entry_point)
        if job["kind"] == "statements":
            return statements_as_tests(job["tests"])
        return module_as_tests(job["tests"], entry_point)
    except (SyntaxError, ValueError) as error:
        raise BadTests(f"the tests are not Python: {error}") from None


def run_judge(job):
    import types

    judge = Judge(move_standard_streams())

    def report(message):
        judge.channel.send(message, b"C")

    try:
        tests = read_tests(job)
        setup = compile(job["setup"], "setup", "exec")
    except (BadTests, SyntaxError) as error:
        report({"bad_tests": str(error)})
        return
    results = []
    lost = None
    names = {"__name__": "tests", "__builtins__": builtins}
    report({"tests": len(tests)})
    try:
        reply = judge.receive()
        if "error" in reply:
            judge.fail(reply["error"])
        exported = judge.decode(reply["value"])
        module = types.ModuleType("solution")
        for name, value in exported.items():
            if type(name) is not str or not name.isidentifier() or name.startswith("__"):
                continue
            setattr(module, name, value)
            # The solution does not get to say what abs, isinstance or math mean in the tests.
            shadows = hasattr(builtins, name) or (name in MODULES and not isinstance(value, types.ModuleType))
            if not shadows or name == job["entry_point"]:
                names[name] = value
        sys.modules["solution"] = module
        exec(setup, names)
    except BaseException as error:
        lost = f"the solution could not be loaded: {type(error).__name__}: {error}"
    for name, test in tests:
        if lost is None:
            try:
                test(names)
                results.append([name, True, ""])
                continue
            except Gone as error:
                lost = str(error)
            except BaseException as error:
                try:
                    why = f"{type(error).__name__}: {error}"
                except BaseException:
                    why = type(error).__name__
                results.append([name, False, why[:500]])
                continue
        results.append([name, False, lost[:500]])
    report({"results": results})
