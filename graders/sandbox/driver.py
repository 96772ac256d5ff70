"""What runs inside a sandbox. Started before there is work; reads one job from descriptor 0, does it, and ends.

  program     runs the model's program; the rest of descriptor 0 is its standard input, descriptor 1 its standard output
  candidate   loads the model's code as the module `solution` and answers calls to what it defines
  judge       runs the dataset's tests in *another* sandbox; every use of the solution is a call to the candidate

The candidate never sees the tests. The judge never runs the model's code: what comes back is data, rebuilt from exact
built-in types, or a Remote, which takes part in no comparison with the tests' own values.
Frames: 4 bytes of length, little endian, then JSON. The judge's carry one letter first: R for the candidate, C for the grader.
Standard library only; it is the sandbox's own interpreter that runs this.
"""

import os
import sys

from conversation import MODULES, Candidate, Channel, Gone, move_standard_streams
from judge import run_judge


def run_program(job):
    import types

    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["solution.py"]
    exec(compile(job["source"], "solution.py", "exec"), module.__dict__)
    say_goodbye(job["done"])


def say_goodbye(done):
    """What the interpreter does at its end, and then the mark that saves waiting for the end of the namespaces."""
    import atexit

    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os.write(1, done.encode())


def run_candidate(job):
    import types

    peer = Candidate(move_standard_streams())
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        exec(compile(job["source"], "solution.py", "exec"), module.__dict__)
        names = {}
        for name, value in list(vars(module).items()):
            if isinstance(value, types.ModuleType):
                if name == value.__name__ and name in MODULES:
                    names[name] = {"t": "module", "name": name}
            elif not name.startswith("__"):
                names[name] = peer.encode(value)
        peer.channel.send({"value": {"t": "dict", "v": list(names.items())}})
    except BaseException as error:
        peer.channel.send({"error": peer.describe(error)})
        return
    while True:
        peer.answer(peer.channel.receive())


def main():
    channel = Channel(0, 1)
    channel.send({"ready": True})
    try:
        job = channel.receive()
    except Gone:
        return  # never needed
    {"program": run_program, "candidate": run_candidate, "judge": run_judge}[job["role"]](job)


main()
