"""The arguments of the command line's tools: argparse's, with complaints as all others are."""
from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any, NoReturn

from crdtredis.errors import EXIT_CONFIG, StartError


class Arguments(ArgumentParser):
    """Of one tool, whose name stands behind `crdt-redis`. What is wrong is a StartError with the
    usage, one line."""

    def __init__(self, tool: str, **more: Any) -> None:
        super().__init__(f"crdt-redis {tool}", formatter_class=RawDescriptionHelpFormatter, **more)

    def error(self, message: str) -> NoReturn:
        raise StartError(f"{' '.join(self.format_usage().split())}: {message}", EXIT_CONFIG)
