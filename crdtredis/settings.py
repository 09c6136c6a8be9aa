"""The settings: one declaration each, and what is printed of them. A setting that is not declared
here does not exist; config.py says what is derived from the declarations.
"""
from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crdtredis.kinds import (Bool, BufferLimits, Choice, Duration, Endpoint, Events, Fixed, Int,
                             Items, Kind, Octal, Peer, Protocols, Share, Size, Text, UserLines,
                             is_address, is_key_pattern, is_path, is_pattern, is_peer,
                             is_percentile)

MASK = "********"
POLICIES = ("noeviction", "allkeys-lru", "volatile-lru", "allkeys-lfu", "volatile-lfu",
            "allkeys-random", "volatile-random", "volatile-ttl")
PEERS_INSTEAD = "No effect: replicas are peers (see replication_log_size, sync_timeout)."


@dataclass(frozen=True)
class Setting:
    name: str
    kind: Kind
    default: Any                    # as it would stand in the JSON file
    help: str
    group: str = ""                 # the heading under which --help and the reference show it
    live: bool = False              # may change at run time
    redis: str = ""                 # Redis's name for it, in CONFIG GET and SET
    flag: str = ""                  # a second flag
    env: str = ""                   # the variable's name where it is not CRDT_<NAME>
    secret: bool = False            # never shown by /config, faults or logs
    # it names what may have changed by itself: giving the same value again brings it into force
    reference: bool = False
    aliases: tuple[str, ...] = ()   # older names of Redis's, for CONFIG GET and SET

    @property
    def public(self) -> str:
        """The name in CONFIG GET."""
        return self.redis or self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return self.env or "CRDT_" + self.name.upper()

    @property
    def flags(self) -> tuple[str, ...]:
        """Ours, and Redis's where that differs: --max-memory and --maxmemory."""
        names = (self.flag, self.name.replace("_", "-"), self.redis)
        return tuple(dict.fromkeys(f"--{name}" for name in names if name))

    @property
    def is_list(self) -> bool:
        """Its value is several words: in a flag up to the next one, in a redis.conf to the line's
        end."""
        return isinstance(self.kind, (Items, BufferLimits)) or self.name == "save"

    @property
    def directives(self) -> tuple[str, ...]:
        """Its names in a redis.conf, the one to write first."""
        return tuple(dict.fromkeys(n.replace("_", "-")
                                   for n in (self.public, self.name, *self.aliases)))

    def words(self, value: Any) -> tuple[str, ...]:
        """The value as words of a redis.conf's line."""
        text = self.kind.to_text(value)
        return tuple(text.split()) or ("",) if self.is_list else (text,)

    @property
    def initial(self) -> Any:
        return self.kind.from_json(self.default)

    def has_only(self, text: str) -> bool:
        """Whether this is a setting of Redis's that has one value here, and the text asks for
        another."""
        return isinstance(self.kind, Fixed) and text.lower() != self.kind.text

    def show(self, value: Any) -> Any:
        """The value as JSON, a secret masked."""
        return (MASK if value else "") if self.secret else self.kind.to_json(value)


def _declare(group: str, *settings: Setting) -> list[Setting]:
    return [Setting(**{**s.__dict__, "group": group}) for s in settings]


S = Setting
PASSWORD = r"[^\0\r\n\ud800-\udfff]*"
TOKEN = Text("a token of visible ASCII characters, or nothing", r"[!-~]*", 512)


def _secret(name: str, kind: Kind, help: str, live: bool = False) -> tuple[Setting, Setting]:
    """A secret, and the file that may hold it."""
    return (S(name, kind, "", help, live=live, secret=True),
            S(f"{name}_file", Text("a path, or nothing", r"[^\0]*"), "",
              f"File that holds it, when {name} is empty; else, the systemd credential {name}."))


SETTINGS: tuple[Setting, ...] = (
    *_declare(
        "Identity and data",
        S("replica_id", Text("up to 128 letters, digits and ._:-, or nothing", r"[A-Za-z0-9._:-]*",
                             128), "",
          "Name of this replica, unique in the cluster. Empty: the one in the data directory, or "
          "host name and a random suffix. It is "
          "kept in the data directory, and starting there with another one is refused."),
        S("cluster_name", Text("1 to 64 letters, digits and ._:-", r"[A-Za-z0-9._:-]+", 64),
          "default",
          "Replicas talk only to replicas of the same cluster name."),
        S("data_dir", Text("a path", r"[^\0]+"), "./data",
          "Directory of the segments, the identity and the lock. Made when missing.",
          redis="dir"),
    ),
    *_declare(
        "Clients",
        S("server_port", Int(0, 65535), 6379, "TCP port for Redis clients; 0: none.", redis="port",
          flag="port", env="CRDT_REDIS_PORT"),
        S("bind", Items('a list of addresses, such as ["127.0.0.1", "-::1"], or "*" for all',
                        is_address, 1), ["127.0.0.1", "-::1"],
          "Addresses to listen on, for clients and (unless http_bind is given) for HTTP. One with "
          "a leading - may be missing."),
        S("unixsocket", Text("a path of at most 107 bytes, or nothing", r"[^\0]*", 107), "",
          "Path of a Unix socket for Redis clients."),
        S("unixsocketperm", Octal(), "0",
          "Permissions of the Unix socket, in octal; 0: what the umask leaves."),
        *_secret("requirepass", Text("a password without line breaks, in UTF-8, or nothing",
                                     PASSWORD, 512),
                 "Password that clients must give with AUTH or HELLO.", live=True),
        S("users", UserLines(), [],
          "Users, each as its name and rules: `user` lines of a redis.conf.", secret=True,
          flag="user"),
        S("aclfile", Text("a path, or nothing", r"[^\0]*"), "",
          "File of users, for ACL LOAD and ACL SAVE, in the place of `users`. A relative path, "
          "where no such file is, is from the data directory, as in Redis."),
        S("acl_pubsub_default", Choice("resetchannels", "allchannels"), "resetchannels",
          "What new users may listen to and publish on: nothing, or every channel.", live=True),
        S("replicate_acl", Bool(), False,
          "What ACL SETUSER, DELUSER and LOAD change at one replica holds at all that have it on.",
          live=True),
        S("acllog_max_len", Int(0, 100_000), 128,
          "Entries of ACL LOG; the oldest go.", live=True),
        S("protected_mode", Bool(), True,
          "Refuse to listen on anything but loopback without a password for clients and "
          "auth_token for peers.", live=True),
        S("max_connections", Int(1, 1_000_000), 10_000,
          "Client connections at a time; further ones get an error and are closed.",
          live=True, redis="maxclients"),
        S("timeout", Duration("1s", "8760h", "s", zero="never"), 0,
          "Close a client that has been idle for so long; 0: never.", live=True),
        S("tcp_keepalive", Duration("1s", "9h", "s", zero="off"), 300,
          "TCP keepalive period for client connections; 0: off.", live=True),
        S("tcp_backlog", Int(1, 65535), 511,
          "Length of the queue of connections not yet accepted."),
        S("io_threads", Int(1, 64), 1,
          "Threads that read and write clients' sockets, and do their TLS, the one that runs "
          "commands among them: for unpipelined clients on several cores."),
        S("client_output_buffer_limit", BufferLimits(),
          "normal 0 0 0 replica 268435456 67108864 60 pubsub 33554432 8388608 60",
          "Disconnect a client whose unread replies exceed the hard limit, or the soft one for so "
          "many seconds; 0: no limit.", live=True),
        S("notify_keyspace_events", Events(), "",
          "Which events of keys clients can subscribe to, as in Redis: K and E for the channels, "
          "and letters for the kinds of events. L: only of what was done at this replica; R: only "
          "of what came from others.", live=True),
        S("tracking_table_max_keys", Int(0, 2**32 - 1), 1_000_000,
          "Keys remembered for client-side caching; beyond that, clients are told that a key is "
          "invalid; 0: no limit.", live=True),
        S("moving_endpoint", Endpoint(), "",
          "Address for Redis clients, of another replica or what stands before several, that "
          "clients are sent to before this server stops, if they asked for it (CLIENT "
          "MAINT_NOTIFICATIONS). Empty: those that want no address are told to come back.",
          live=True),
        S("client_query_buffer_limit", Size("1mb", "1024gb"), 1_073_741_824,
          "Disconnect a client whose unfinished command takes more than this.", live=True),
        S("maxmemory_clients", Share(), 0,
          "Disconnect clients, those that take most first, while what all take together is more "
          "than this, or than such a percentage of max_memory; 0: no limit. CLIENT NO-EVICT "
          "exempts a client.", live=True),
        # one value must fit an op (core/keyspace.pxd, OP_MOST) whatever else stands in it, and so
        # does the longest string
        S("proto_max_bulk_len", Size("1mb", "512mb"), 536_870_912,
          "Longest single argument of a command.", live=True),
        S("databases", Fixed(16), 16, "Number of databases."),
    ),
    *_declare(
        "Memory and disk",
        S("max_memory", Size("1", "1024tb", zero="no limit"), 0,
          "Evict keys, or refuse commands that would use more memory, once the data takes this "
          "much; 0: no limit.",
          live=True, redis="maxmemory"),
        S("maxmemory_policy", Choice(*POLICIES), "noeviction",
          "What is evicted at max_memory, of all keys or of those with a deadline (volatile): the "
          "least recently or least frequently used, random ones, those with the nearest deadline; "
          "or nothing.", live=True),
        S("maxmemory_samples", Int(1, 64), 5,
          "Keys looked at for each that is evicted.", live=True),
        S("maxmemory_eviction_tenacity", Int(0, 100), 10,
          "How long eviction may keep a command waiting: 10 is 0.5 ms, 100 as long as it takes.",
          live=True),
        S("lfu_log_factor", Int(0, 2**31 - 1), 10,
          "The greater, the more accesses the count of an LFU policy tells apart.", live=True),
        S("lfu_decay_time", Int(0, 2**31 - 1), 1,
          "Minutes without an access that take one off that count; 0: none do.", live=True),
        S("hll_sparse_max_bytes", Int(0, 2**63 - 1, "bytes"), 3000,
          "A larger HyperLogLog is held in its dense form, of 12 KB.", live=True),
        S("stream_node_max_entries", Int(0, 2**63 - 1), 100,
          "XADD and XTRIM with ~ remove so many entries of a stream at once.", live=True),
        S("stream_idmp_duration", Int(1, 86400, "seconds"), 100,
          "How long ids of XADD IDMP are known in streams of which XCFGSET has not said so: for "
          "the XADDs that this replica executes, so all replicas should have the same.",
          live=True),
        S("stream_idmp_maxsize", Int(1, 10000), 100,
          "Likewise, how many of each producer.", live=True),
        S("appendonly", Fixed(True), True, "Every write is logged before its reply leaves."),
        S("appendfsync", Choice("always", "everysec", "no"), "everysec",
          "When the log is forced to disk: before every reply, once a second, or when the system "
          "likes.", live=True),
        S("save", Fixed(""), "",
          "Redis's snapshot schedule: checkpoints and the log behind them are the data."),
        S("max_segment_size", Size("64kb", "1gb"), 67_108_864,
          "A log segment is closed and a new one begun at this size.", live=True),
        S("compaction_threshold", Int(1, 1_000_000), 10,
          "Closed segments that trigger a checkpoint.", live=True),
        S("disk_free_warning", Size("1", "1024tb", zero="no warning"), 1_073_741_824,
          "/health warns, and the log, while less than this is free where data_dir is; 0: no "
          "warning.", live=True),
        S("replication_log_size", Size("0", "1024tb"), 1_073_741_824,
          "Bytes of the log that are kept for peers that were away, beyond what a start needs.",
          live=True),
    ),
    *_declare(
        "Replication",
        S("http_port", Int(0, 65535), 8080,
          "TCP port for peers, operators and metrics; 0: none (then no replication).",
          env="CRDT_HTTP_PORT"),
        S("http_bind", Items("a list of addresses, or an empty one", is_address), [],
          "Addresses for http_port; empty: those of bind."),
        S("http_max_connections", Int(8, 1_000_000), 256,
          "HTTP connections at a time. One that waits for its first request makes room for a new "
          "one; so many descriptors are kept for them."),
        S("peers", Items('a list of "host:port" or "http://host:port" with the peers\' http_port',
                         is_peer), [],
          "Other replicas, each with its HTTP port. One that is up is enough: it knows the rest."),
        S("advertise", Peer(), "",
          "Where the other replicas reach this one's http_port. Nothing: at the address from which "
          "it calls them.", live=True),
        S("peer_discovery", Bool(), True,
          "Call all members of the cluster, and not only those that peers and CRDT.PEER ADD name.",
          live=True),
        S("leave_with_peer", Choice("auto", "yes", "no"), "auto",
          "As it stops, leave with a peer the proof that its log is whole, so that the next start "
          "goes on as the same actor although the machine's memory does not say so. auto: in "
          "containers, and where the machine is about to stop.", live=True),
        *_secret("auth_token", TOKEN,
                 "Bearer token that peers, operators and Prometheus must show for everything but "
                 "GET /health; the same in all replicas."),
        *_secret("operator_token", TOKEN,
                 "Bearer token of operators, for all of HTTP but replication; auth_token is then "
                 "for peers alone."),
        *_secret("metrics_token", TOKEN,
                 "Bearer token for GET /metrics and /stats alone, for monitoring."),
        S("allow_plain_peers", Bool(), False,
          "Send auth_token to peers on other machines over plain HTTP too, where whoever can "
          "listen reads it: for networks that are private "
          "or encrypted otherwise. Without it such a peer is refused; https:// and loopback always "
          "work.", live=True),
        S("sync_interval", Duration("10ms", "24h"), "5s",
          "Time between anti-entropy rounds with each peer.", live=True),
        S("sync_timeout", Duration("10ms", "24h"), "30s",
          "Longest time in which a request to a peer or its answer makes no progress.", live=True),
        S("retry_interval", Duration("1ms", "1h"), "1s",
          "First pause after a failed attempt; it doubles up to a cap.", live=True),
        S("max_retries", Int(0, 1_000_000), 3,
          "Failed attempts after which a peer counts as down (it is still tried).", live=True),
        S("replication_rate_limit", Size("1kb", "1024tb", zero="no limit"), 0,
          "Bytes a second that full syncs may send to peers, all together; 0: no limit.",
          live=True),
        S("verify_interval", Duration("1s", "8760h", zero="never"), "24h",
          "Time between comparisons of the data with each peer's, made while no writes are under "
          "way; 0: never.", live=True),
        S("gc_interval", Duration("10ms", "24h"), "60s",
          "Time between rounds of dropping what every peer has seen.", live=True),
        S("pubsub_local", Items("a list of patterns of channels, each of at most 1000 characters",
                                is_pattern), [],
          "Messages to channels that match one of these patterns stay at this replica.", live=True),
        S("local_keys", Items("a list of at most 64 patterns of keys, each of at most 256 bytes",
                              is_key_pattern, most=64), [],
          "Keys that match one of these patterns are never replicated: each replica has its own. "
          "A key that is there when the patterns change stays what it is.", live=True),
        S("max_clock_skew", Duration("1ms", "24h"), "60s",
          "Hold back operations stamped further ahead of the local clock than this, until it gets "
          "there.", live=True),
        S("accept_stamps_until", Int(0, 32_503_680_000, "seconds since 1970"), 0,
          "Take it for the time until the clock gets there, where max_clock_skew is concerned: the "
          "way on after a replica's clock was "
          "wrong, set at every replica. 0: the clock alone counts.", live=True),
        S("enable_tls", Bool(), False,
          "TLS on http_port, and towards peers given without a scheme."),
    ),
    *_declare(
        "TLS",
        S("tls_port", Int(0, 65535), 0,
          "TCP port for Redis clients that speak TLS, beside server_port; 0: none.", live=True),
        S("tls_cert_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Certificate in PEM format, with those that lead to its authority: for tls_port and, "
          "with enable_tls, for http_port. Setting it again, and SIGHUP, read the files again.",
          live=True, reference=True),
        S("tls_key_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Its private key in PEM format.", live=True, reference=True),
        *_secret("tls_key_file_pass", Text("a passphrase without line breaks, in UTF-8, or nothing",
                                           PASSWORD, 512), "Passphrase of the key.", live=True),
        S("tls_client_cert_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Certificate in PEM format that this replica shows to peers which want one "
          "(tls_auth_peers). Empty: tls_cert_file, with enable_tls, where that is one for clients, "
          "too.", live=True, reference=True),
        S("tls_client_key_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Its private key in PEM format.", live=True, reference=True),
        *_secret("tls_client_key_file_pass",
                 Text("a passphrase without line breaks, in UTF-8, or nothing", PASSWORD, 512),
                 "Passphrase of that key.", live=True),
        S("tls_more_certs", Items("a list of at most 64 paths without spaces and commas", is_path,
                                  most=64), [],
          "Further certificates for tls_port and, with enable_tls, for http_port, each a file in "
          "PEM format with its chain and its key: a client gets the first one that is for the "
          "name it asks for (SNI), else tls_cert_file's.", live=True, reference=True),
        S("tls_ca_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Authorities that certificates of clients, and those of peers, must lead to. Empty: the "
          "system's, for peers.", live=True, reference=True, redis="tls-ca-cert-file"),
        S("tls_ca_cert_dir", Text("a path, or nothing", r"[^\0]*"), "",
          "Directory of further authorities for clients, as openssl rehash leaves it.", live=True,
          reference=True),
        S("tls_crl_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Revocation lists in PEM format, one of each authority: clients of tls_port whose "
          "certificate stands in them are refused and, with tls_ca_file, such peers.", live=True,
          reference=True),
        S("tls_auth_clients", Choice("yes", "no", "optional"), "yes",
          "Clients of tls_port show a certificate of tls_ca_file or tls_ca_cert_dir: they must, "
          "need not, or may.", live=True),
        S("tls_auth_peers", Choice("no", "optional", "yes"), "no",
          "Peers that call http_port show a certificate of tls_ca_file that is in no list of "
          "tls_crl_file: they need not, may, or must. Others than peers need none.", live=True,
          reference=True),
        S("tls_peer_names", Items("a list of at most 1000 names without spaces and commas",
                                  lambda name: 0 < len(name) <= 253, most=1000), [],
          "Names of which the certificate of a peer that calls has one (DNS name, address or "
          "common name); *.example.org: any with one label before that. Empty: every name will "
          "do.", live=True, reference=True),
        S("tls_auth_clients_user", Choice("off", "CN"), "off",
          "CN: a client of tls_port is, from its handshake on, the user whose name is the common "
          "name in its certificate, where there is one.", live=True, reference=True),
        S("tls_protocols", Protocols(), "",
          "Versions of TLS for tls_port; empty: TLSv1.2 TLSv1.3.", live=True),
        S("tls_ciphers", Text("a list of ciphers as OpenSSL has it, or nothing"), "",
          "Ciphers of TLSv1.2 for tls_port; empty: those with forward secrecy and AES-GCM or "
          "ChaCha20-Poly1305; DEFAULT: OpenSSL's.", live=True),
        S("tls_ciphersuites", Text("a list of cipher suites as OpenSSL has it, or nothing"), "",
          "Cipher suites of TLSv1.3 for tls_port; empty: OpenSSL's.", live=True),
        S("tls_prefer_server_ciphers", Bool(), False,
          "The server's order of ciphers goes before the client's.", live=True),
        S("tls_session_caching", Bool(), True,
          "Clients may resume a session, which saves most of a handshake.", live=True),
        S("tls_session_cache_size", Int(0, 2**31 - 1), 20_480,
          "Sessions of TLSv1.2 that are kept; 0: no limit.", live=True),
        S("tls_session_cache_timeout", Duration("1s", "8760h", "s"), 300,
          "How long a session may be resumed.", live=True),
        S("tls_handshake_timeout", Duration("100ms", "1h"), "10s",
          "Close a client whose handshake takes longer.", live=True),
    ),
    *_declare(
        "Logging and monitoring",
        S("log_level",
          Choice("debug", "info", "warning", "error",
                 also={"verbose": "debug", "notice": "info", "nothing": "error"}), "info",
          "Least important messages to log.", live=True, redis="loglevel"),
        S("audit_log", Bool(), False,
          "Log what administrators do: CONFIG SET, ACL SETUSER, FLUSHALL, SHUTDOWN and their like, "
          "with user and address; of HTTP, changes, backups and what was refused.", live=True),
        S("tracing", Bool(), False,
          "Send spans of slow commands and of operations on their way to other replicas to an "
          "OpenTelemetry collector, which OTEL_EXPORTER_OTLP_ENDPOINT names. Takes "
          "crdtredis[tracing]."),
        S("tracing_interval", Duration("100ms", "1h"), "1s",
          "How long after one operation the next is followed to other replicas.", live=True),
        S("log_file", Text("a path, or nothing", r"[^\0]*"), "",
          "File to log to, opened again on SIGHUP; empty: standard error.",
          redis="logfile"),
        S("daemonize", Bool(), False,
          "Go on in the background once the start has succeeded; messages then go to log_file "
          "alone."),
        S("pidfile", Text("a path, or nothing", r"[^\0]*"), "",
          "File to hold the process id while the server runs."),
        S("log_format", Choice("text", "json"), "text",
          "Lines for people, or one JSON object per line.", live=True),
        S("slowlog_log_slower_than", Int(-1, 10**15, "microseconds"), 10_000,
          "SLOWLOG takes commands slower than this; 0: all, -1: none.", live=True,
          aliases=("commandlog-execution-slower-than",)),
        S("slowlog_max_len", Int(0, 1_000_000), 128, "Entries that SLOWLOG keeps.", live=True,
          aliases=("commandlog-slow-execution-max-len",)),
        S("commandlog_request_larger_than", Int(-1, 10**15, "bytes"), 1024**2,
          "COMMANDLOG takes commands whose request is larger; -1: none.", live=True),
        S("commandlog_large_request_max_len", Int(0, 1_000_000), 128,
          "Entries of large requests that COMMANDLOG keeps.", live=True),
        S("commandlog_reply_larger_than", Int(-1, 10**15, "bytes"), 1024**2,
          "COMMANDLOG takes commands whose reply is larger; -1: none.", live=True),
        S("commandlog_large_reply_max_len", Int(0, 1_000_000), 128,
          "Entries of large replies that COMMANDLOG keeps.", live=True),
        S("latency_monitor_threshold", Int(0, 2**31 - 1, "milliseconds"), 0,
          "LATENCY takes events that last so long or longer; 0: none.", live=True),
        S("latency_tracking", Bool(), True,
          "Count how long commands take, for LATENCY HISTOGRAM, INFO latencystats and "
          "crdt_redis_command_duration_seconds.", live=True),
        S("latency_tracking_info_percentiles",
          Items("a list of numbers from 0 to 100", is_percentile), ["50", "99", "99.9"],
          "Percentiles that INFO latencystats shows.", live=True),
        S("busy_reply_threshold", Int(0, 2**31 - 1, "milliseconds"), 5000,
          "A script that runs for longer is slow: other clients are told BUSY, and SCRIPT KILL may "
          "end it; 0: never.", live=True, aliases=("lua-time-limit",)),
        S("script_memory", Size("1mb", "64gb"), 256 * 1024**2,
          "Memory that Lua scripts may hold together. What has grown beyond it is an error of the "
          "script.", live=True),
        S("enable_debug_command", Choice("no", "yes", "local"), "no",
          "Who may use DEBUG, which can make the server stand still: nobody, everybody, clients of "
          "this machine."),
        S("hz", Int(1, 500), 10, "Rounds of background work a second (expiry, idle clients).",
          live=True),
    ),
    *_declare(
        "What OBJECT ENCODING answers, and nothing else: values are held alike, large or small",
        S("hash_max_listpack_entries", Int(0, 2**31 - 1), 512,
          "A hash with more fields is called hashtable, not listpack.", live=True,
          aliases=("hash-max-ziplist-entries",)),
        S("hash_max_listpack_value", Int(0, 2**31 - 1, "bytes"), 64,
          "A hash with a longer field or value is called hashtable.", live=True,
          aliases=("hash-max-ziplist-value",)),
        S("set_max_intset_entries", Int(0, 2**31 - 1), 512,
          "A set of so many whole numbers at most is called intset.", live=True),
        S("set_max_listpack_entries", Int(0, 2**31 - 1), 128,
          "Any other set with more members is called hashtable, not listpack.", live=True),
        S("set_max_listpack_value", Int(0, 2**31 - 1, "bytes"), 64,
          "A set with a longer member is called hashtable.", live=True),
        S("zset_max_listpack_entries", Int(0, 2**31 - 1), 128,
          "A sorted set with more members is called skiplist, not listpack.", live=True,
          aliases=("zset-max-ziplist-entries",)),
        S("zset_max_listpack_value", Int(0, 2**31 - 1, "bytes"), 64,
          "A sorted set with a longer member is called skiplist.", live=True,
          aliases=("zset-max-ziplist-value",)),
        S("list_max_listpack_size", Int(-2**31, 2**31 - 1), -2,
          "A list with more elements, or, from -1 to -5 (or less), more than 4, 8, 16, 32 or 64 "
          "KiB, is called quicklist, not listpack.", live=True,
          aliases=("list-max-ziplist-size",)),
    ),
    *_declare(
        "Known to Redis, without effect here",
        S("supervised", Choice("no", "auto", "systemd", "upstart"), "no",
          "No effect: a service manager that asks to be told (NOTIFY_SOCKET) is."),
        S("list_compress_depth", Int(0, 2**31 - 1), 0, "No effect: lists are not compressed.",
          live=True),
        S("activerehashing", Bool(), True, "No effect: tables always grow step by step.",
          live=True),
        S("lazyfree_lazy_user_del", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_user_flush", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_server_del", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_expire", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_eviction", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("activedefrag", Bool(), False, "No effect: memory is not rearranged.", live=True),
        S("repl_backlog_size", Size("1", "1024tb"), 1_048_576,
          PEERS_INSTEAD, live=True),
        S("repl_backlog_ttl", Int(0, 2**31 - 1, "seconds"), 3600,
          PEERS_INSTEAD, live=True),
        S("repl_timeout", Int(1, 2**31 - 1, "seconds"), 60,
          PEERS_INSTEAD, live=True),
        S("repl_ping_replica_period", Int(1, 2**31 - 1, "seconds"), 10,
          PEERS_INSTEAD, live=True,
          aliases=("repl-ping-slave-period",)),
        S("repl_diskless_sync", Bool(), True,
          PEERS_INSTEAD, live=True),
        S("repl_diskless_sync_delay", Int(0, 2**31 - 1, "seconds"), 5,
          PEERS_INSTEAD, live=True),
        S("repl_diskless_load", Choice("disabled", "on-empty-db", "swapdb"), "disabled",
          PEERS_INSTEAD, live=True),
        S("repl_disable_tcp_nodelay", Bool(), False,
          PEERS_INSTEAD, live=True),
        S("rdbcompression", Bool(), True,
          "No effect: snapshots, which SYNC sends, are not compressed.", live=True),
        S("rdbchecksum", Bool(), True, "No effect: snapshots always have one.", live=True),
        S("rdb_key_save_delay", Int(-2**31, 2**31 - 1, "microseconds"), 0,
          "No effect: snapshots are sent as fast as they are read.", live=True),
        S("stop_writes_on_bgsave_error", Bool(), True,
          "No effect: while the log cannot be written, writes are always refused.", live=True),
        S("no_appendfsync_on_rewrite", Bool(), False,
          "No effect: while a checkpoint is made the log is forced to disk as ever.", live=True),
        S("auto_aof_rewrite_percentage", Int(0, 2**31 - 1), 100,
          "No effect: compaction_threshold says when a checkpoint takes the log's place.",
          live=True),
        S("auto_aof_rewrite_min_size", Size("0", "1024tb"), 67_108_864,
          "No effect: compaction_threshold says when a checkpoint takes the log's place.",
          live=True),
        S("aof_use_rdb_preamble", Bool(), True,
          "No effect: checkpoints have a format of their own.", live=True),
    ),
    *_declare(
        "Redis mirror",
        S("redis_addr", Text('"host:port", the path of a Unix socket, or nothing',
                             r"(?:(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}"
                             r"|/[^\0\r\n]{1,106})?"), "",
          "A Redis beside this server, of version 5.0 or later, that is kept equal to what clients "
          "see of database 0, for readers there. Its database must be empty at first.",
          live=True),
        S("redis_db", Int(0, 15), 0, "The database there.", live=True),
        S("redis_user", Text("a user's name, or nothing", r"[^\s\0]*", 128), "",
          "The user of that Redis to log in as, with redis_password; empty: its default one.",
          live=True),
        *_secret("redis_password", Text("a password without line breaks, in UTF-8, or nothing",
                                        r"[^\0\r\n]*", 512), "Its password.", live=True),
    ),
)

BY_NAME = {s.name: s for s in SETTINGS}
BY_FLAG = {flag: s for s in SETTINGS for flag in (*s.flags, *(f"--{alias}" for alias in s.aliases))}
BY_VARIABLE = {s.variable: s for s in SETTINGS}
# Any spelling of CONFIG GET and SET, with dashes: the setting's own name or Redis's.
BY_PUBLIC = {alias.replace("_", "-"): s for s in SETTINGS
             for alias in (s.name, s.public, *s.aliases)}
ENCODING_LIMITS = tuple(s.name for s in SETTINGS if "_max_listpack_" in s.name
                        or "_max_intset_" in s.name or s.name.startswith("stream_")
                        or s.name == "hll_sparse_max_bytes")
# in the order of Executor.set_eviction
EVICTION = ("maxmemory_policy", "maxmemory_samples", "lfu_log_factor", "lfu_decay_time",
            "maxmemory_eviction_tenacity")
# what engine.TlsContext takes, less "tls_"
TLS = ("tls_cert_file", "tls_key_file", "tls_key_file_pass", "tls_ca_file", "tls_ca_cert_dir",
       "tls_more_certs", "tls_crl_file", "tls_auth_clients", "tls_protocols",
       "tls_ciphers", "tls_ciphersuites",
       "tls_prefer_server_ciphers", "tls_session_caching", "tls_session_cache_size",
       "tls_session_cache_timeout")
# what http_port and calls to peers depend on besides
TLS_OF_PEERS = ("tls_client_cert_file", "tls_client_key_file", "tls_client_key_file_pass",
                "tls_auth_peers", "tls_peer_names")
# Not a setting, since it says where the settings are.
CONFIG_VARIABLE = "CRDT_CONFIG"


# ---- what is printed -----------------------------------------------------------------------------


def example() -> str:
    """A complete configuration file with every default; each setting is preceded by a comment,
    "_<name>"."""
    lines: dict[str,
                                  Any] = {"_":
                                  "Settings of crdt-redis. Keys that begin with _ are comments. "
                                  "Durations are integers of nanoseconds (of seconds "
                                  "where the comment says so) or strings such as \"250ms\"; sizes "
                                  "are integers of bytes or strings such as \"64mb\"."}
    for s in SETTINGS:
        live = " May change at run time." if s.live else ""
        lines["_" + s.name] = f"{s.help} Expected: {s.kind.expected}.{live}"
        lines[s.name] = s.kind.to_json(s.initial)
    return json.dumps(lines, indent=2, ensure_ascii=False)


def groups() -> dict[str, list[Setting]]:
    out: dict[str, list[Setting]] = {}
    for s in SETTINGS:
        out.setdefault(s.group, []).append(s)
    return out


def help_text() -> str:
    """The settings as flags, for --help."""
    import textwrap

    lines = []
    for group, members in groups().items():
        lines.append(f"\n{group}:")
        for s in members:
            lines.append(f"  {', '.join(s.flags)} {s.kind.word}")
            default = s.kind.to_text(s.initial)
            lines += textwrap.wrap(s.help + (f" Default: {default}." if default else ""), 100,
                                   initial_indent=" " * 8,
                                   subsequent_indent=" " * 8)
    return "\n".join(lines)


# Those of which most need some; the README shows them.
COMMON = ("replica_id", "peers", "data_dir", "server_port", "bind", "http_port", "requirepass",
          "auth_token", "appendfsync", "max_memory",
          "sync_interval", "max_clock_skew", "log_file")


def reference(names: Iterable[str] = BY_NAME) -> str:
    """These settings as a Markdown table: all stand in packaging/settings.md, COMMON in the
    README."""
    rows = ["| setting | default | run time | flag, environment, CONFIG name | meaning |",
            "|---|---|---|---|---|"]
    for s in map(BY_NAME.__getitem__, names):
        default = s.kind.to_text(s.initial)
        spellings = " ".join(f"`{n}`" for n in (*s.flags, s.variable, s.public))
        rows.append(f"| `{s.name}` | {f'`{default}`' if default else ''} | "
                    f"{'yes' if s.live else ''} | {spellings} | {s.help} |".replace("  |", " |"))
    return "\n".join(rows)
