"""The conversation between tests and solution (graders/sandbox/driver.py): frames, values, and the solution's side."""

import builtins
import json
import os

MAX_FRAME = 16 << 20
PLAIN = (type(None), bool, str)
# Modules that tests may lean on because the solution imported them (they are imported anew in the judge).
MODULES = {"bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools", "json",
           "math", "operator", "random", "re", "statistics", "string", "typing"}


class SolutionError(Exception):
    """The solution raised something that tests can't catch by name, ended, or broke the protocol."""


class Gone(BaseException):
    """The other side has ended."""


class Channel:
    def __init__(self, read_fd, write_fd):
        self.read_fd = read_fd
        self.write_fd = write_fd

    def receive_bytes(self, count):
        parts = []
        while count:
            part = os.read(self.read_fd, min(count, 1 << 16))
            if not part:
                raise Gone("the other side has ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def receive(self):
        size = int.from_bytes(self.receive_bytes(4), "little")
        if size > MAX_FRAME:
            raise Gone("a message is too large")
        return json.loads(self.receive_bytes(size))

    def send(self, message, prefix=b""):
        data = prefix + json.dumps(message).encode()
        if len(data) > MAX_FRAME:
            raise SolutionError(f"a value of {len(data)} bytes is too large to pass between tests and solution")
        data = len(data).to_bytes(4, "little") + data
        while data:
            data = data[os.write(self.write_fd, data) :]


class Peer:
    """One end of the conversation. Both ends can ask; while one waits for an answer it serves the other's questions."""

    prefix = b""

    def __init__(self, channel):
        self.channel = channel
        self.objects = {}  # id -> what the other side may use
        self.ids = {}  # id() -> id
        self.classes = {}  # exception classes of the other side, by their id

    def keep(self, value):
        number = self.ids.get(id(value))
        if number is None:
            number = len(self.objects) + 1
            self.objects[number] = value
            self.ids[id(value)] = number
        return number

    def encode(self, value):
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 63 else {"t": "int", "v": hex(value)}
        if kind is float:
            return value if value - value == 0 else {"t": "float", "v": repr(value)}
        if kind is list:
            return [self.encode(v) for v in value]
        if kind in (tuple, set, frozenset):
            return {"t": kind.__name__, "v": [self.encode(v) for v in value]}
        if kind is dict:
            return {"t": "dict", "v": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
        if kind in (bytes, bytearray):
            return {"t": kind.__name__, "v": value.hex()}
        if kind is complex:
            return {"t": "complex", "v": [self.encode(value.real), self.encode(value.imag)]}
        if kind is type(NotImplemented):
            return {"t": "notimplemented"}
        if kind.__module__ in ("fractions", "decimal") and kind.__name__ in ("Fraction", "Decimal"):
            return {"t": kind.__name__, "v": str(value)}
        return self.encode_object(value, kind)

    def decode(self, value):
        if type(value) is list:
            return [self.decode(v) for v in value]
        if type(value) is not dict:
            return value
        tag, v = value["t"], value.get("v")
        if tag == "int":
            return int(v, 16)
        if tag == "float":
            return float(v)
        if tag in ("tuple", "set", "frozenset"):
            return getattr(builtins, tag)([self.decode(x) for x in v])
        if tag == "dict":
            return {self.decode(k): self.decode(x) for k, x in v}
        if tag in ("bytes", "bytearray"):
            return getattr(builtins, tag).fromhex(v)
        if tag == "complex":
            return complex(self.decode(v[0]), self.decode(v[1]))
        if tag == "notimplemented":
            return NotImplemented
        if tag == "Fraction":
            from fractions import Fraction

            return Fraction(v)
        if tag == "Decimal":
            from decimal import Decimal

            return Decimal(v)
        return self.decode_object(tag, value)

    def request(self, message):
        self.channel.send(message, self.prefix)
        while True:
            reply = self.receive()
            if "op" in reply:
                self.answer(reply)
            elif "error" in reply:
                self.fail(reply["error"])
            else:
                return self.decode(reply["value"])

    def receive(self):
        return self.channel.receive()

    def answer(self, message):
        try:
            reply = {"value": self.encode(self.perform(message))}
        except Gone:
            raise
        except BaseException as error:
            reply = {"error": self.describe(error)}
        self.channel.send(reply, self.prefix)

    def describe(self, error):
        try:
            text = str(error)[:2000]
        except BaseException:
            text = "(an exception that can't be printed)"
        return {"class": self.encode_exception(type(error)), "text": text}

    def encode_exception(self, cls):
        base = next(c for c in cls.__mro__ if c.__module__ == "builtins")
        own = self.keep(cls) if base is not cls else 0
        return {"t": "exception", "id": own, "name": cls.__name__, "base": base.__name__}

    def decode_exception(self, value):
        base = getattr(builtins, str(value["base"]), None)
        if not (isinstance(base, type) and issubclass(base, Exception)):
            base = SolutionError
        if value["id"] == 0:
            return base
        if value["id"] not in self.classes:
            self.classes[value["id"]] = type(str(value["name"]), (base,), {})
        return self.classes[value["id"]]

    def fail(self, error):
        cls = self.decode_exception(error["class"])
        text = error["text"] if cls is not SolutionError else f"{error['class']['name']}: {error['text']}"
        raise cls(text) if not issubclass(cls, UnicodeError) else ValueError(text)


class Candidate(Peer):
    def encode_object(self, value, kind):
        if isinstance(value, type) and issubclass(value, BaseException):
            return self.encode_exception(value)
        for base, plain in ((bool, bool), (int, int), (float, float), (str, str), (dict, dict), (list, list), (tuple, tuple)):
            if isinstance(value, base):  # an enum, a named tuple, a Counter: its plain value
                return self.encode(plain(value))
        if hasattr(value, "tolist") and kind.__module__.startswith("numpy"):
            return self.encode(value.tolist())
        return {"t": "remote", "id": self.keep(value), "name": getattr(kind, "__name__", "?")}

    def decode_object(self, tag, value):
        if tag == "remote":
            return self.objects[value["id"]]
        number = value["id"]  # a function of the tests
        return lambda *args, **kwargs: self.request(
            {"op": "callback", "id": number, "args": self.encode(args), "kwargs": self.encode(kwargs)}
        )

    def perform(self, message):
        target = self.objects[message["id"]]
        args, kwargs = self.decode(message["args"]), self.decode(message["kwargs"])
        op = message["op"]
        if op == "call":
            return target(*args, **kwargs)
        if op == "method":
            return getattr(target, message["name"])(*args, **kwargs)
        if op == "get":
            return getattr(target, message["name"])
        if op == "set":
            return setattr(target, message["name"], args[0])
        if op in ("iter", "next", "len", "bool", "str", "repr"):
            return getattr(builtins, op)(target)
        import operator

        return getattr(operator, op)(target, *args)


def move_standard_streams():
    """Descriptors of their own for the conversation: what the code prints goes to descriptor 2."""
    channel = Channel(os.dup(0), os.dup(1))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return channel
