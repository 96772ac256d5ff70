"""Graders that do what they should not, for tests/graders/python_grader_test.cc. Which one: the completion's first word."""

import ctypes
import os
import sys
import time


def note_pid(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))


def act(completion, row):
    what, _, argument = completion.partition(" ")
    if what == "score":
        return float(argument)
    if what == "pid":
        return float(os.getpid())
    if what == "cpus":
        return float(len(os.sched_getaffinity(0)))
    if what == "raise":
        print("about to raise")
        raise ValueError("no good")
    if what == "none":
        return None
    if what == "nan":
        return float("nan")
    if what == "inf":
        return float("inf")
    if what == "str":
        return "1.0"
    if what == "parts":
        return {"format": 0.25, "content": 0.5}
    if what == "dict":
        return {"score": 0.5, "reason": "half", "sub_scores": {"a": 1}}
    if what == "hang":
        note_pid(argument)
        time.sleep(3600)
    if what == "fork_and_hang":
        if os.fork() == 0:
            note_pid(argument)
        time.sleep(3600)
    if what == "fork_and_exit":
        if os.fork() == 0:
            note_pid(argument)
            time.sleep(3600)
        while not os.path.exists(argument) or os.path.getsize(argument) == 0:
            time.sleep(0.001)
        os._exit(3)
    if what == "fork_and_return":
        os.fork()
        return 1.0
    if what == "segfault":
        print("before the crash", flush=True)
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "sys_exit":
        sys.exit(4)
    if what == "print":
        line = "x" * 1023 + "\n"
        for _ in range(int(argument) * 1024):
            sys.stdout.write(line)
        os.write(1, b"{\"id\": 0, \"score\": 99}\n")
        return 1.0
    if what == "count":
        return [1.0, 2.0]
    if what == "gil":
        ctypes.PyDLL(None).sleep(3600)
    if what == "bomb":  # of limited size: it is the user's own code, with the user's rights
        for _ in range(5):
            os.fork()
        time.sleep(3600)
    if what == "fds":
        return float(len(os.listdir("/proc/self/fd")))
    if what == "allocate":
        return float(len(bytearray(int(argument) << 20)))
    raise AssertionError(f"unknown {what}")


async def later(completion):
    import asyncio

    await asyncio.sleep(0.001)
    return float(len(completion))


def wants_columns(completion, answer, hint="none"):
    return {"score": float(answer) + (hint == "none"), "reason": f"{completion} {answer} {hint}"}


def wants_too_much(text):
    return 1.0


not_a_function = 3
