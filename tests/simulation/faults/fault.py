"""What a deliberate fault is, and names that many share."""
from typing import NamedTuple

CORE = "crdtredis/core/"
ENGINE = "crdtredis/engine/"
COMMANDS = "crdtredis/commands/"
STORAGE = "crdtredis/storage/"
RETENTION = "storage/test_retention.py::"
STAGES = "storage/test_stage.py::"
PEERS = "crdtredis/replication/"
ENDED = "replication/test_ended.py::"
HTTP = "crdtredis/http/"


class Fault(NamedTuple):
    name: str
    path: str
    test: str
    old: str
    new: str
