# The Executor: the command table of one replica, its settings and statistics, and sessions without
# sockets.
#
# The table is made from commands/table.py once per Executor: an open-addressing hash over
# lower-cased names, with what dispatch needs of each command and the counters. Everything that runs
# per command is in dispatch.pxi; this is what Python asks for now and then.

import time

from crdtredis._core cimport T_HASH, T_SET, T_ZSET

FLAG_BITS = {
    "write": C_WRITE, "readonly": C_READONLY, "denyoom": C_DENYOOM, "fast": C_FAST,
    "loading": C_LOADING, "stale": C_STALE,
    "no_auth": C_NO_AUTH, "no_multi": C_NO_MULTI, "no_queue": C_NO_QUEUE, "noscript": C_NOSCRIPT,
    "admin": C_ADMIN,
    "blocking": C_BLOCKING, "movablekeys": C_MOVABLEKEYS, "skip_slowlog": C_SKIP_SLOWLOG,
    "container": C_CONTAINER, "exec": C_EXEC,
    "one_change": C_ONE_CHANGE,
}


cdef class Native:
    pass


cdef Native native(NativeHandler f):
    cdef Native h = Native.__new__(Native)
    h.f = f
    return h


cdef class Executor:
    """Commands over a replica: what a server is without sockets, files and peers.

    replica     the Replica that commands read and write; its `now` is the only clock.
    server      crdtredis.server.Server, or None in tests and the simulation; Python commands reach
                the rest of the process by it.
    """

    def __cinit__(self, Replica replica, server=None):
        cdef int i
        self.replica = replica
        self.server = server
        self.deferred = []
        self.d.kernel = &replica.k
        self.d.self = <void*>self
        self.d.next_deferred = -1
        self.d.slow_usec = -1
        self.d.slow_ticks = <uint64_t>-1
        self.d.ticks_per_usec = calibrated()
        for i in range(LATENCIES - 1):
            self.d.latency_bound[i] = <uint64_t>(self.d.ticks_per_usec * (1 << i))
        self.d.latency_shift = highest_bit(self.d.latency_bound[0])
        self.build_table()
        self.set_slowlog(10000, 128)
        self.set_encoding_limits()

    def __dealloc__(self):
        cdef uint32_t i
        if self.d.table != NULL:
            for i in range(self.d.mask + 1):
                free(self.d.table[i])
            free(self.d.table)
        for i in range(self.d.slow_max):
            buffer_free(&self.d.slow[i].args)
        free(self.d.slow)
        free(self.d.timeouts)
        free(self.d.again)

    cdef build_table(self):
        cdef Command *cmd
        cdef uint32_t size = 64
        cdef uint32_t i
        cdef bytes name
        cdef uint32_t bits
        self.specs = dict(table.load())
        self.handlers = []
        while size < 2 * len(self.specs):
            size *= 2
        self.d.mask = size - 1
        self.d.table = <Command**>need_memory(calloc(size, sizeof(Command*)))
        for spec in self.specs.values():
            name = spec.name.lower().encode()
            cmd = <Command*>need_memory(calloc(1, sizeof(Command)))
            memcpy(cmd.name, PyBytes_AS_STRING(name), len(name))
            cmd.name_n = <uint32_t>len(name)
            cmd.hash = name_hash(cmd.name, cmd.name_n, 2166136261)
            cmd.arity = spec.arity
            bits = 0
            for flag in spec.flags:
                bits |= <uint32_t>FLAG_BITS.get(flag, 0)
            cmd.flags = bits | (C_SUBCOMMAND if spec.container else 0)
            if not spec.movable:
                cmd.first_key, cmd.last_key, cmd.key_step = spec.key_range
            handler = (spec.handler if spec.handler is not None
                       else self.specs[spec.container].handler)
            if isinstance(handler, Native):
                cmd.native = (<Native>handler).f
            else:
                cmd.python = <void*>handler
                self.handlers.append(handler)
            i = cmd.hash & self.d.mask
            while self.d.table[i] != NULL:
                i = (i + 1) & self.d.mask
            self.d.table[i] = cmd

    @property
    def loop(self):
        """The Loop that serves it, or None."""
        return <object>self.d.loop if self.d.loop != NULL else None

    def session(self, int resp=2) -> Session:
        """A client without a connection."""
        cdef Session s = Session.__new__(Session)
        s.executor = self
        s.user = "default"
        s.c = &s.own
        steady_alone(&self.d)
        client_init(&self.d, s.c, resp)
        s.id = s.c.id
        # not counted: __dealloc__ frees the client, and end_session never sees this one
        s.own.session = <void*>s
        return s

    def execute(self, Session session, list argv) -> bytes:
        """Runs one command for a session made by session(); answers the RESP bytes, empty while the
        reply is deferred.

        argv: list of bytes, at least the name. Never raises for what a client may send; ValueError
        while the client is owed a reply, since a connection reads nothing from it then.
        """
        cdef Span *spans
        cdef bytes arg
        cdef int i
        if not argv:
            raise ValueError("a command has a name")
        if session.c.flags & CLIENT_BLOCKED:
            raise ValueError("the client is owed the reply to an earlier command")
        spans = <Span*>need_memory(malloc(sizeof(Span) * len(argv)))
        try:
            for i, arg in enumerate(argv):
                spans[i] = span(PyBytes_AS_STRING(arg), <size_t>PyBytes_GET_SIZE(arg))
            self.d.tick = cycles()
            watch_clock(&self.d)
            steady_alone(&self.d)
            session.c.active = self.d.steady
            execute(&self.d, session.c, spans, <int>len(argv))
        finally:
            free(spans)
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.d.interrupted = 0
            raise pending
        return session.take_replies()

    def serve_waiting(self):
        """Serves clients that wait for keys, after what a peer sent. The loop does it by itself;
        without one, whoever hands ops to the replica does."""
        serve_ready(&self.d)

    def expire_deferred(self):
        """Answers every deferred reply and every client waiting for keys whose time is up. The loop
        does so by itself; without one, whoever moves the time calls this."""
        cdef Token token
        steady_alone(&self.d)
        expire_waiting(&self.d)
        # Token.expire raises nothing, whatever on_timeout does: else the first to raise would be
        # due again in every iteration.
        while self.deferred and self.deferred[0][0] <= self.d.steady:
            token = heapq.heappop(self.deferred)[2]
            token.expire()
        while self.deferred and (<Token>self.deferred[0][2]).done:
            heapq.heappop(self.deferred)
        self.d.next_deferred = self.deferred[0][0] if self.deferred else -1

    # -- what refuses commands

    @property
    def requirepass(self) -> bytes | None:
        """The password new clients must give, None: none. Clients that are connected keep what they
        have."""
        return self.password

    @requirepass.setter
    def requirepass(self, value):
        self.password = value or None
        self.d.need_auth = self.password is not None

    @property
    def loading(self) -> bool:
        return (self.d.guard & GUARD_LOADING) != 0

    @loading.setter
    def loading(self, bint value):
        self.set_guard(GUARD_LOADING, value)

    @property
    def max_memory(self) -> int:
        """Bytes of keyspace above which commands that would use more are refused, 0: no limit."""
        return self.d.max_memory

    @max_memory.setter
    def max_memory(self, size_t value):
        self.d.max_memory = value
        self.set_guard(GUARD_OOM, value > 0)

    @property
    def misconf(self) -> str | None:
        """Why writes are refused, or None."""
        return self.d.misconf.decode("utf-8", "replace") if self.d.guard & GUARD_MISCONF else None

    @misconf.setter
    def misconf(self, value):
        cdef bytes text
        if value is not None:
            text = f"MISCONF {value}".encode()[:255]
            memcpy(self.d.misconf, PyBytes_AS_STRING(text), len(text) + 1)
        self.set_guard(GUARD_MISCONF, value is not None)

    @property
    def clock_ahead(self) -> bool:
        """Are writes refused because the timestamps run ahead of the clock?"""
        return (self.d.guard & GUARD_CLOCK) != 0

    cdef set_guard(self, uint32_t bit, bint on):
        if on:
            self.d.guard |= bit
        else:
            self.d.guard &= ~bit

    # -- statistics

    def stats(self) -> dict:
        """Counters since the start or reset_stats()."""
        return {"commands": self.d.stats.commands, "hits": self.d.stats.hits,
                "misses": self.d.stats.misses,
                "errors": self.d.stats.errors, "transactions": self.d.stats.transactions}

    @property
    def changes(self) -> int:
        """Changes since the start, counted as Redis counts them: rdb_changes_since_last_save."""
        return max(<int64_t>self.d.kernel.changes + self.d.stats.changes, 0)

    def command_stats(self) -> dict:
        """Name -> (calls, usec, rejected, failed), of commands called or refused at least once."""
        cdef uint32_t i
        cdef Command *cmd
        out = {}
        for i in range(self.d.mask + 1):
            cmd = self.d.table[i]
            if cmd != NULL and (cmd.calls or cmd.rejected):
                out[cmd.name.decode()] = (cmd.calls, int(<double>cmd.ticks / self.d.ticks_per_usec),
                                          cmd.rejected, cmd.failed)
        return out

    def latencies(self) -> dict:
        """Name -> calls by how long they took: up to 1, 2, 4 ... 2**22 µs, and longer. Of commands
        called at least once."""
        cdef uint32_t i
        cdef Command *cmd
        out = {}
        for i in range(self.d.mask + 1):
            cmd = self.d.table[i]
            if cmd != NULL and cmd.calls:
                out[cmd.name.decode()] = [cmd.took[j] for j in range(LATENCIES)]
        return out

    def error_stats(self) -> dict:
        """Error code -> count."""
        return {self.d.error_counts[i].code.decode("utf-8", "replace"): self.d.error_counts[i].count
                for i in range(ERROR_CODES) if self.d.error_counts[i].count}

    def reset_stats(self):
        cdef uint32_t i
        cdef Command *cmd
        cdef int64_t changes = self.d.stats.changes             # which it is not about
        memset(&self.d.stats, 0, sizeof(Stats))
        self.d.stats.changes = changes
        memset(self.d.error_counts, 0, sizeof(self.d.error_counts))
        for i in range(self.d.mask + 1):
            cmd = self.d.table[i]
            if cmd != NULL:
                cmd.calls = cmd.ticks = cmd.rejected = cmd.failed = 0
                memset(cmd.took, 0, sizeof(cmd.took))

    # -- slow log

    def set_slowlog(self, int64_t threshold_usec, uint32_t max_len):
        """Commands of at least threshold_usec are kept, the newest max_len of them; negative: none
        are."""
        cdef list entries = self.slowlog(max_len)
        cdef uint32_t i
        self.d.slow_usec = threshold_usec
        self.d.slow_ticks = <uint64_t>-1
        if threshold_usec >= 0:
            self.d.slow_ticks = <uint64_t>(<double>threshold_usec * self.d.ticks_per_usec)
        if max_len != self.d.slow_max:
            resize_slowlog(&self.d, max_len)

    def set_encoding_limits(self, *, int64_t hash_max_listpack_entries=512,
                            int64_t hash_max_listpack_value=64, int64_t set_max_intset_entries=512,
                            int64_t set_max_listpack_entries=128, int64_t set_max_listpack_value=64,
                            int64_t zset_max_listpack_entries=128,
                            int64_t zset_max_listpack_value=64, int64_t list_max_listpack_size=-2):
        """What OBJECT ENCODING goes by, as the settings of these names."""
        cdef EncodingLimits *e = &self.d.encoding
        e.entries[<int>T_HASH] = hash_max_listpack_entries
        e.entries[<int>T_SET] = set_max_listpack_entries
        e.entries[<int>T_ZSET] = zset_max_listpack_entries
        e.value[<int>T_HASH] = hash_max_listpack_value
        e.value[<int>T_SET] = set_max_listpack_value
        e.value[<int>T_ZSET] = zset_max_listpack_value
        e.whole = set_max_intset_entries
        e.list_size = list_max_listpack_size

    @property
    def slowlog_threshold(self) -> int:
        return self.d.slow_usec

    @property
    def slowlog_max_len(self) -> int:
        return self.d.slow_max

    def slowlog(self, most: int = -1) -> list:
        """Newest first: (id, seconds, usec, [args], addr, name)."""
        cdef SlowEntry *e
        cdef Span *argv = NULL
        cdef int cap = 0
        cdef int argc = 0
        cdef int i
        cdef uint64_t at = self.d.slow_n
        out = []
        while at > 0 and at + self.d.slow_max > self.d.slow_n and most != len(out):
            at -= 1
            e = &self.d.slow[at % self.d.slow_max]
            if e.args.n == 0:
                break
            unpack_command(e.args.p, &argv, &cap, &argc)
            out.append((e.id, e.at, e.usec, [argv[i].p[:argv[i].n] for i in range(argc)],
                        e.addr.decode(), text_of(e.name)))
        free(argv)
        return out

    def slowlog_reset(self):
        cdef uint32_t i
        for i in range(self.d.slow_max):
            self.d.slow[i].args.n = 0

    def is_command(self, name: bytes) -> bool:
        return find_command(&self.d, span(PyBytes_AS_STRING(name), len(name))) != NULL


cdef double calibrated():
    """Ticks of the cycle counter per microsecond, measured once over 2 ms: good to a thousandth."""
    global ticks_per_usec
    if ticks_per_usec == 0:
        begun = time.perf_counter_ns()
        first = cycles()
        while time.perf_counter_ns() - begun < 2_000_000:
            pass
        last = cycles()
        ticks_per_usec = (last - first) * 1000.0 / (time.perf_counter_ns() - begun)
    return ticks_per_usec


cdef double ticks_per_usec = 0
