"""Error replies of Python commands, and the errors that stop a start.

A Python command refuses by raising CommandError with the whole reply text, code first ("ERR syntax
error"); the executor turns it into an error reply and changes nothing. Texts that more than one
command gives stand here as constants, worded as Redis words them, because clients match on them.
Native commands are C and take theirs from the refuse_* functions of engine/executor.

StartError is what the command line turns into one line on standard error and an exit code.
"""


class CommandError(Exception):
    """An error reply: the text as sent, without the leading '-'."""


SYNTAX = "ERR syntax error"
NOT_INTEGER = "ERR value is not an integer or out of range"
NOT_FLOAT = "ERR value is not a valid float"
NO_SUCH_KEY = "ERR no such key"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
DEBUG_NOT_ALLOWED = ("ERR DEBUG command not allowed. If the enable-debug-command option is set to "
                     "\"local\", you can run it from a local "
                     "connection, otherwise you need to set this option in the configuration file, "
                     "and then restart the server.")
DB_INDEX = "ERR DB index is out of range"
OUT_OF_RANGE = "ERR index out of range"
PATTERN_TOO_LONG = "ERR pattern is too long"
TIMEOUT_NOT_INTEGER = "ERR timeout is not an integer or out of range"
TIMEOUT_NEGATIVE = "ERR timeout is negative"
TIMEOUT_OUT_OF_RANGE = "ERR timeout is out of range"
NO_AUTH = "NOAUTH Authentication required."
WRONG_PASS = "WRONGPASS invalid username-password pair or user is disabled."
# a Python command failed in a way nobody foresaw; the log has the traceback
INTERNAL = "ERR internal error"


def wrong_arity(name: str) -> CommandError:
    """For commands that check the number of arguments of a subcommand themselves: name is
    "config|get"."""
    return CommandError(f"ERR wrong number of arguments for '{name.lower()}' command")


def unknown_subcommand(container: str, sub: bytes) -> CommandError:
    shown = sub[:128].decode("utf-8", "replace")
    return CommandError(f"ERR unknown subcommand '{shown}'. Try {container.upper()} HELP.")


def integer(arg: bytes, text: str = NOT_INTEGER, low: int = -2**63, high: int = 2**63 - 1) -> int:
    """An argument as Redis reads integers: digits, perhaps a '-' before them; no '+', no space, no
    leading zero."""
    digits = arg[1:] if arg[:1] == b"-" else arg
    if (not digits.isdigit() or len(digits) > 19 or (digits[:1] == b"0" and arg != b"0")
        or not low <= int(arg) <= high):
        raise CommandError(text)
    return int(arg)


def time_limit(arg: bytes, now: int) -> int:
    """A time limit in milliseconds, 0 for none, that can be added to `now` (ms since 1970)."""
    ms = integer(arg, TIMEOUT_NOT_INTEGER)
    if ms < 0:
        raise CommandError(TIMEOUT_NEGATIVE)
    if ms > 2**63 - 1 - now:
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    return ms


class DamagedBatch(ValueError):
    """Bytes that should be a batch of ops are not, or say something this version does not
    understand."""


class StrangerError(ValueError):
    """An op of an actor that is not declared, a declaration that contradicts a known one, or an op
    of this very process it never made."""


class WaitingRoomFull(Exception):
    """Too many ops wait for ops they depend on: nothing is lost if the sender offers them again
    later."""


# Exit codes of `crdt-redis`: 0 stopped as asked; 1 an unforeseen failure (with a traceback in the
# log).
EXIT_CONFIG = 2         # a setting or a flag is wrong; also what argument errors give
EXIT_ADDRESS = 3        # an address or port cannot be listened on
# the data directory is locked, belongs to another replica, or holds a damaged segment
EXIT_DATA = 4
EXIT_FORCED = 130       # a second signal cut the orderly stop short


class StartError(Exception):
    """The server cannot start, or not stop as it should, or `check` found damage: lines for
    standard error, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
