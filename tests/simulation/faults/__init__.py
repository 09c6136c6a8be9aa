"""The deliberate faults that mutate.py tries. Each is easy to make, and the design has a sentence
against it.

A fault names the test that must catch it: arguments of pytest below tests/, or one of
mutate.PROGRAMS. `old` is the text that `new` replaces. White space between words does not count,
except that an indent before `old` says that a line begins there, and a line break behind it that a
line ends there.
"""
from tests.simulation.faults import (commands, engine, joins, ops, process, replication, state,
                                     storage, streams)
from tests.simulation.faults.fault import Fault

ROOMS = state, ops, joins, streams, engine, commands, storage, replication, process
FAULTS: list[Fault] = [fault for room in ROOMS for fault in room.FAULTS]
