"""TensorBoard events: every metric of every step of a run, in `RUN_DIR/tensorboard/`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType


class EventWriter:
    """Writes scalars. Not thread-safe; close() (or leaving the `with` block) flushes everything to disk."""

    def __init__(self, folder: str | Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        Path(folder).mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(folder), flush_secs=10)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """One point per metric; values that are not finite are left out."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()
                  if isinstance(value, int | float) and math.isfinite(value)]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Flushes and closes the file. Idempotent."""
        self._writer.close()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
