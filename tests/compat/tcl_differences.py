"""Redis 7.2.4's own suite (see tcl.py): how many tests its units have for an external server, and
which of them fail here, for a reason."""
from __future__ import annotations

UNITS: dict[str, int] = {
    "type/string": 74,          # and one more where INFO says that the allocator is jemalloc
    "type/list": 220, "type/list-2": 2, "type/list-3": 11, "type/set": 95, "type/zset": 308,
    "type/hash": 72, "type/incr": 23,
    "expire": 58, "scan": 17, "keyspace": 52, "multi": 39, "sort": 53, "dump": 11, "geo": 59,
    "bitops": 45, "bitfield": 16, "hyperloglog": 25, "protocol": 19, "other": 17,
    "type/stream": 66, "type/stream-cgroups": 54, "quit": 3, "slowlog": 9,
    "info-command": 3, "lazyfree": 4, "querybuf": 2, "violations": 1,
    "pause": 16, "pubsub": 33, "introspection": 33, "introspection-2": 43,
    "tracking": 55,
    "functions": 91, "scripting": 189, "latency-monitor": 11, "integration/redis-cli": 28,
    "acl": 102, "acl-v2": 30, "auth": 10, "tls": 8,
}
# They start servers of their own, with our server as redis-server.
OWN = {"acl", "acl-v2", "auth", "tls"}
# Of lists, encodings are not compared.
WITHOUT_ENCODINGS = {"type/list", "type/list-2", "type/list-3", "sort", "keyspace"}
# unit -> patterns of tests that are not run, since they would wait for ever or spoil those after
# them
HANGING: dict[str, list[str]] = {
    "tls": ["TLS: Verify tls-cert-file is also used as a client cert if none specified",
            "TLS: switch between tcp and tls ports"],    # no REPLICAOF; `port` is not changed
}

ORDER = ("compares the order of the fields, which is the table's here; that of Redis changes with "
         "the size of the hash")
ENCODING = "OBJECT ENCODING tells from the value alone, not from the commands that made it"
SETTINGS_OF_REDIS = ("sets or reads parameters of Redis that are not among the settings here, or "
                     "cannot change at run time")
# unit -> (pattern of the test's name, why it fails); a reason that begins with "sometimes" is one
# of a race
DIFFERENCES: dict[str, list[tuple[str, str]]] = {
    "type/string":
    [("SETRANGE against integer-encoded key|APPEND modifies the encoding from int to raw",
      ENCODING)],
    "type/incr": [("(incr|decr|incrby|decrby) operation should update encoding from raw to int",
                   ENCODING)],
    "type/hash": [("Hash ziplist of various encodings.*", ORDER)],
    "type/set": [("SINTER with same integer elements but different encoding", ENCODING),
                 ("SMOVE only notify dstset when the addition is successful",
                  "adding what is there already asserts it again, so that it outlives a concurrent "
                  "removal; that is a change, and WATCH sees it")],
    "type/stream": [("XADD streamID edge", "an id of * tells which replica made it")],
    "type/stream-cgroups": [("Consumer group lag with XDELs",
                             "the lag is known where entries were removed, too")],
    "type/zset": [("zunionInterDiffGenericCommand acts on SET and ZSET", ENCODING)],
    "lazyfree": [("lazy free a stream with all types of metadata",
                  "memory is given back in slices, whatever deletes; no objects are counted")],
    "introspection": [("MONITOR supports redacting command arguments", "no MIGRATE yet"),
                      ("CONFIG (SET (with multiple args|rollback .*)|GET .*)", SETTINGS_OF_REDIS),
                      ("CLIENT KILL close the client connection during bgsave",
                       "sometimes: nothing is saved by a second process, and a checkpoint is made "
                       "before the test looks")],
    "introspection-2": [("MIGRATE .*", "no MIGRATE yet"),
                        ("COMMAND LIST FILTERBY PATTERN - .*",
                         "CLUSTER has no subcommands, since there is no cluster")],
    "latency-monitor": [("LATENCY of expire events .*",
                         "a key with a million members expires within 20 ms: their memory is given "
                         "back in slices")],
    "scripting": [("CLUSTER RESET can not .*",
                   "CLUSTER has no subcommands, since there is no cluster"),
                  ("EVAL - cmsgpack can pack and unpack circular references.",
                   "sometimes, in one of its two runs: nesting is refused where it is too deep"),
                  ("EVAL does not leak in the Lua stack",
                   "sometimes, in one of its two runs: a VM with its sandbox takes 100 KiB"),
                  ("not enough good replicas", SETTINGS_OF_REDIS)],
    "querybuf": [("query buffer resized correctly.*",
                  "clients have no buffer of their own but for a command that has come in part")],
    "acl": [("blocked command gets rejected when reprocessed after permission change",
             "usec has the time until it waited, too"),
            ("ACLs can block all DEBUG subcommands except one", "no DEBUG OBJECT"),
            ("ACL load and save.*",
             "whoever is still a user stays connected, as from Redis 7.4 on")],
    "acl-v2": [("Test various odd commands for key permissions", "no MIGRATE yet")],
    "auth": [("AUTH .* when binary password is .*|MASTERAUTH test with binary password",
              "no NUL in requirepass, and no Redis-style replication")],
    "tls": [("TLS: Working with an encrypted keyfile", "the error says what is wrong")],
    "integration/redis-cli": [(".*command-line hinting - (latest|no) server",
                               "sometimes: wants the redis-cli of 7.2"),
                              (".*command-line hinting - old server", "no ACL users yet"),
                              ("DUMP RESTORE with -x option",
                               "compares the order of the members of a set of whole numbers, which "
                               "Redis keeps sorted")],
}
