"""What the user of a tool sees."""
from __future__ import annotations

import sys
import time

TOLD_EVERY = 5.0                # seconds, where no terminal shows the progress


def say(line: str) -> None:
    print(line, flush=True)


class Progress:
    """How much of `total` is done: a bar on a terminal, else a line now and then."""

    def __init__(self, what: str, total: int, quiet: bool = False) -> None:
        self.what, self.total, self.done = what, total, 0
        self.quiet = quiet
        self.told = time.monotonic() + TOLD_EVERY
        self.bar = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty() and not self.quiet:
            from rich.progress import Progress as Bar

            self.bar = Bar()
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=self.total)
        return self

    def __exit__(self, *_) -> None:
        self.tell()
        if self.bar:
            self.bar.stop()

    def step(self, n: int) -> None:
        self.stand(self.done + n)

    def stand(self, done: int) -> None:
        self.done = done
        if time.monotonic() >= self.told:
            self.tell()

    def tell(self) -> None:
        if self.bar:
            self.told = time.monotonic() + 0.1
            self.bar.update(self.task, completed=self.done)
        elif not self.quiet:
            self.told = time.monotonic() + TOLD_EVERY
            say(f"{self.done} of {self.total} {self.what}")
