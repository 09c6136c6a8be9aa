# The Executor: the command table of one replica, its settings and statistics, and sessions without
# sockets.
#
# The table is made from commands/table.py once per Executor. Everything that runs per command is in
# the parts below; this is what Python asks for now and then.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport ceil
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from crdtredis._core cimport PRODUCED_MOST, PRODUCED_SECONDS, T_HASH, T_SET, T_ZSET, Replica
from crdtredis.buffer cimport Buffer, Span, buffer_free, need_memory, span
import resource
import weakref

from crdtredis import audit
from crdtredis.acl import Users
from crdtredis.commands import table
from crdtredis.kinds import EVENT_LETTERS

FLAG_BITS = {
    "write": C_WRITE, "readonly": C_READONLY, "denyoom": C_DENYOOM, "fast": C_FAST,
    "loading": C_LOADING, "stale": C_STALE,
    "no_auth": C_NO_AUTH, "no_multi": C_NO_MULTI, "no_queue": C_NO_QUEUE, "noscript": C_NOSCRIPT,
    "admin": C_ADMIN,
    "blocking": C_BLOCKING, "movablekeys": C_MOVABLEKEYS, "skip_slowlog": C_SKIP_SLOWLOG,
    "container": C_CONTAINER, "exec": C_EXEC,
    "one_change": C_ONE_CHANGE, "allow_busy": C_ALLOW_BUSY, "may_replicate": C_MAY_REPLICATE,
    "subscribed": C_SUBSCRIBED, "skip_monitor": C_SKIP_MONITOR, "unseen": C_UNSEEN,
}

PERMISSIONS = {"access": ACL_READ, "insert": ACL_WRITE, "update": ACL_WRITE, "delete": ACL_WRITE}
VARIABLE_NEEDS = {"SET": NEEDS_OF_SET, "BITFIELD": NEEDS_OF_BITFIELD, "DELEX": NEEDS_OF_DELEX}
CHANNELS = {"SUBSCRIBE": CHANNEL_ALL, "SSUBSCRIBE": CHANNEL_ALL, "PSUBSCRIBE": CHANNEL_PATTERNS,
            "PUBLISH": CHANNEL_ONE, "SPUBLISH": CHANNEL_ONE}

RULES = {"plain": EVENT_PLAIN, "store": EVENT_STORE, "set": EVENT_SET, "score": EVENT_SCORE,
         "delete": EVENT_DELETE, "deadline": EVENT_DEADLINE, "ends": EVENT_ENDS,
         "anew": EVENT_ANEW, "counter": EVENT_COUNTER, "silent": EVENT_SILENT, "pair": EVENT_PAIR,
         "move": EVENT_MOVE, "smove": EVENT_SMOVE, "trims": EVENT_TRIMS,
         "consumer": EVENT_CONSUMER}
# of ACL LOG
DENIED_REASONS = {DENIED_COMMAND: "command", DENIED_KEY: "key", DENIED_CHANNEL: "channel"}
ACL_CONTEXTS = ("toplevel", "multi", "lua")
# of COMMANDLOG
COMMAND_LOGS = {"slow": COST_TIME, "large-request": COST_REQUEST, "large-reply": COST_REPLY}


cdef uint32_t notify_bit(str letter):
    return <uint32_t>1 << <int>EVENT_LETTERS.index(letter)


cdef dict event_table():
    """Command's name -> (letter, event, rule, second event)."""
    out = {}
    for (letter, event, rule, event2), names in table.EVENTS.items():
        for name in names.split():
            out[name.encode()] = (letter, event.encode(), rule, event2.encode())
    return out


cdef class Native:
    pass


cdef Native native(NativeHandler f, ReadsOnly reads_only=NULL):
    cdef Native h = Native.__new__(Native)
    h.f = f
    h.reads_only = reads_only
    return h


cdef void run_audited(Call *c) noexcept nogil:
    take_gil(&c.dispatch.gil)
    call_audited(c)


cdef void call_audited(Call *c) noexcept with gil:
    """Runs it, in Python or not, and has it written down (audit.py)."""
    cdef Client *client = c.client
    cdef Client *who = caller_of(c.dispatch, client)
    cdef Buffer *reply = &client.reply.buf
    cdef size_t at = reply.n
    cdef int on = audit.is_on()
    handler, user, address = <object>client.command.python, b"", text_of(who.addr)
    if who.user != NULL:                    # it may remove itself
        user = (<Account>who.user.account).name
    if isinstance(handler, Native):
        (<Native>handler).f(c)
    else:
        call_python(c)
    if not on and not audit.is_on():
        return
    try:
        audit.command(user, address, [shown_word(c, i) for i in range(min(c.argc, audit.WORDS))],
                      c.argc, PyBytes_FromStringAndSize(
                          reply.p + at, min(<Py_ssize_t>(reply.n - at), 512))
                      if reply.n > at else b"")
    except Exception:
        log.exception("command %s is not in the audit log", client.command.name.decode())


cdef tuple shown_word(Call *c, int i):
    """(the beginning of an argument, its length), or what stands there for a secret."""
    cdef Span word = c.argv[i]
    if hides(c.argv, c.argc, i) and not (
            is_word(c.argv[0], "ACL") and (i == 2 or word.n and word.p[0] in b"+-~%&@")):
        return audit.REDACTED, 0
    return PyBytes_FromStringAndSize(word.p, min(<Py_ssize_t>word.n, audit.BYTES)), word.n


cdef int needs_of(spec, str access) except -1:
    """What a command does to a key, as a permission."""
    cdef int bits = 0
    if "variable_flags" in access:
        return VARIABLE_NEEDS[spec.name]
    for word in access.split():
        bits |= <int>PERMISSIONS.get(word, 0)
    return bits


cdef int describe_keys(Command *cmd, spec) except -1:
    """Where the command's keys and channels stand, for acl.pxi."""
    cdef KeySpec *k
    cdef bytes word
    cmd.channels = CHANNELS.get(spec.name, CHANNEL_NONE)
    for keys in spec.keys:
        if keys.access == "not_key" or (isinstance(keys, table.OtherKeys) and keys.nowhere):
            continue
        if cmd.key_n == KEY_SPECS:
            raise ValueError(f"{spec.name} has too many key specifications")
        k = &cmd.keys[cmd.key_n]
        cmd.key_n += 1
        k.needs = needs_of(spec, keys.access)
        k.step = 1
        if isinstance(keys, table.KeyRange):
            k.kind, k.first, k.last, k.step = KEYS_RANGE, keys.first, keys.last, keys.step
        elif isinstance(keys, table.CountedKeys):
            k.kind, k.first, k.step = KEYS_COUNTED, keys.at, keys.step
        elif isinstance(keys, table.KeyAfter):
            word = keys.word.encode()
            k.kind, k.first = KEYS_AFTER, keys.start
            if len(word) >= sizeof(k.word):
                raise ValueError(f"{spec.name}: {keys.word} is too long")
            memcpy(k.word, PyBytes_AS_STRING(word), len(word) + 1)
        elif isinstance(keys, table.StreamKeys):
            k.kind, k.first = KEYS_STREAMS, 1           # where options begin
        elif spec.name == "SORT":
            k.kind = KEYS_SORTED
        else:
            raise ValueError(f"{spec.name}: how its keys are found, users' rights do not know")
    return 0


cdef void tell_denials(Dispatch *d) noexcept nogil:
    if d.denials.n:
        take_gil(&d.gil)
        call_denied(d)


cdef void call_denied(Dispatch *d) noexcept with gil:
    cdef Denials told = d.denials
    cdef Denial *one
    cdef Command *last = NULL
    cdef uint32_t i
    memset(&d.denials, 0, sizeof(Denials))
    executor = <Executor>d.executor
    try:
        for denied, reason in DENIED_REASONS.items():
            executor.users.count_denied(reason, told.dropped[<int>denied])
        for i in range(told.n):
            one = told.kept[i]
            session = None
            if one.client != NULL:              # it is described as of then
                session = session_of(d, one.client)
                last = one.client.command
                one.client.command = <Command*>one.command
            executor.users.log_denied(
                session, DENIED_REASONS[one.denied], ACL_CONTEXTS[one.context],
                denial_what(one).p[:one.what_n], denial_name(one).p[:one.name_n], one.count,
                d.steady - one.first, d.steady - one.last)
            if one.client != NULL:
                one.client.command = last
    except Exception:
        log.exception("refusals cannot be put into ACL LOG")
    denials_free(&told)


cdef class Executor:
    """Commands over a replica: what a server is without sockets, files and peers.

    replica     the Replica that commands read and write; its `now` is the only clock.
    server      crdtredis.server.Server, or None in tests and the simulation; Python commands reach
                the rest of the process by it.
    """

    def __cinit__(self, Replica replica, server=None):
        self.replica = replica
        self.server = server
        self.deferred = Deferred.__new__(Deferred)
        self.d.kernel = &replica.k
        self.d.executor = <void*>self
        self.d.next_deferred = -1
        self.d.ops_limit = <size_t>-1
        self.d.latency.ticks = <uint64_t>-1
        stopwatch_init(&self.d.stopwatch, calibrated())
        self.d.scripting.busy_ms = 5000
        self.limit_subscriptions(PUBSUB_MOST, SUBSCRIPTIONS_MOST)
        self.d.tracking.most = TRACKED_MOST
        self.d.scripting.memory = 256 << 20
        self.build_table()
        self.default_account = Account(b"default")
        self.default_account.d = &self.d
        self.d.default_user = &self.default_account.u
        # users that refer to what holds them would keep the replica until the collector comes
        tell = weakref.WeakMethod(self.tell_denials)
        self.users = Users(self.specs, self.default_account, lambda: (tell() or int)())
        self.set_slowlog(10000, 128)
        self.set_slowlog(1 << 20, 128, COST_REQUEST)
        self.set_slowlog(1 << 20, 128, COST_REPLY)
        self.set_eviction("noeviction")
        self.set_encoding_limits()
        self.d.consumers.patience = 5000

    def __dealloc__(self):
        cdef int i
        command_table_free(&self.d.table)
        for i in range(<int>COSTS):
            slowlog_free(&self.d.logs[i])
        free(self.d.waiting.timeouts)
        free(self.d.waiting.argv)
        free(self.d.pubsub.topics)
        free(self.d.pubsub.pairs)
        abroad_free(&self.d)
        parked_free(&self.d)
        consumers_free(&self.d)
        denials_free(&self.d.denials)
        hot_free(&self.d)
        track_free(&self.d)
        buffer_free(&self.d.notify.channel)
        scripting_free(&self.d)

    cdef build_table(self):
        cdef Command *cmd
        cdef bytes name, event, event2
        cdef uint32_t bits
        cdef dict events = event_table()
        self.specs = dict(table.load())
        self.handlers = []
        command_table_init(&self.d.table, <uint32_t>len(self.specs))
        for index, spec in enumerate(self.specs.values()):
            name = spec.name.lower().encode()
            cmd = <Command*>need_memory(calloc(1, sizeof(Command)))
            memcpy(cmd.name, PyBytes_AS_STRING(name), len(name))
            cmd.name_n = <uint32_t>len(name)
            cmd.arity = spec.arity
            cmd.index = index
            describe_keys(cmd, spec)
            bits = 0
            for flag in spec.flags:
                bits |= <uint32_t>FLAG_BITS.get(flag, 0)
            cmd.flags = bits | (C_SUBCOMMAND if spec.container else 0)
            if name in events:
                letter, event, rule, event2 = events[name]
                cmd.event_rule = RULES[rule]
                cmd.event_class = notify_bit(letter)
                memcpy(cmd.event, PyBytes_AS_STRING(event), len(event))
                memcpy(cmd.event2, PyBytes_AS_STRING(event2), len(event2))
            if not spec.movable:
                cmd.first_key, cmd.last_key, cmd.key_step = spec.key_range
            if "readonly" in spec.flags and spec.group != "scripting":
                if spec.keys and isinstance(spec.keys[0], table.CountedKeys):
                    cmd.read_count = spec.keys[0].at
                elif spec.keys and isinstance(spec.keys[0], table.StreamKeys):
                    cmd.read_streams = 1
                else:
                    cmd.read_first, cmd.read_last, _ = spec.key_range
            handler = (spec.handler if spec.handler is not None
                       else self.specs[spec.container].handler)
            native = isinstance(handler, Native)
            if native:
                cmd.handler = (<Native>handler).f
                cmd.reads_only = (<Native>handler).reads_only
            else:
                cmd.handler = run_python
            if spec.name in audit.COMMANDS:
                cmd.handler = run_audited
            if not native or cmd.handler == run_audited:
                cmd.python = <void*>handler
                self.handlers.append(handler)
            command_table_add(&self.d.table, cmd)

    @property
    def loop(self):
        """The Loop that serves it, or None."""
        return <object>self.d.loop if self.d.loop != NULL else None

    def session(self, int resp=2) -> Session:
        """A client without a connection."""
        cdef Session s
        steady_alone(&self.d)
        s = new_session(&self.d, NULL)
        s.c.reply.resp = resp
        return s

    def execute(self, Session session, list argv) -> bytes:
        """Runs one command for a session made by session(); returns the RESP bytes, empty while the
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
            self.d.stopwatch.at = cycles()
            check_clock(&self.d)
            steady_alone(&self.d)
            session.c.active = self.d.steady
            execute(&self.d, session.c, spans, <int>len(argv))
            if self.d.tracking.clients and self.d.loop == NULL:
                track_iteration(&self.d)
        finally:
            free(spans)
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.d.interrupted = 0
            raise pending
        return session.take_replies()

    def serve_waiting(self):
        """Serves clients that wait for keys, and fires keyspace notifications, after what a peer
        sent. The loop does it by itself;
        without one, whoever hands ops to the replica does."""
        notify_others(&self.d)
        serve_ready(&self.d)
        track_iteration(&self.d)

    def expire_deferred(self):
        """Gives every deferred reply whose time is up, and ends every wait for keys whose time is.
        The loop does so by itself; without one, whoever moves the time calls this."""
        steady_alone(&self.d)
        expire_waiting(&self.d)
        self.d.next_deferred = self.deferred.expire(self.d.steady)

    # -- what refuses commands

    @property
    def requirepass(self) -> bytes | None:
        """The password of the default user, as it was set here; None: none. Clients that are logged
        in keep what they have."""
        return self.users.password

    @requirepass.setter
    def requirepass(self, value):
        self.users.set_password(value or None)

    def tell_denials(self):
        """Puts into ACL LOG what was refused users so far."""
        tell_denials(&self.d)

    def permits(self, Account account, list argv) -> tuple | None:
        """May this user run it? (Denied, where in argv); None: there is no such command."""
        cdef Span *spans = <Span*>need_memory(malloc(sizeof(Span) * (len(argv) + 1)))
        cdef Command *cmd
        cdef bytes arg
        cdef int at = 0
        for i, arg in enumerate(argv):
            spans[i] = span(PyBytes_AS_STRING(arg), <size_t>PyBytes_GET_SIZE(arg))
        cmd = find_whole_command(&self.d.table, spans, <int>len(argv))
        found = (None if cmd == NULL
                 else (user_check(&account.u, cmd, spans, <int>len(argv), &at), at))
        free(spans)
        return found

    @property
    def loading(self) -> bool:
        return (self.d.guard & GUARD_LOADING) != 0

    @loading.setter
    def loading(self, bint value):
        self.set_guard(GUARD_LOADING, value)

    @property
    def max_memory(self) -> int:
        """Bytes of keyspace above which keys are evicted, or commands that would use more are
        refused; 0: no limit."""
        return self.d.max_memory

    @max_memory.setter
    def max_memory(self, size_t value):
        cdef size_t before = self.d.max_memory
        self.d.max_memory = value
        self.set_guard(GUARD_OOM, value > 0)
        limit_changed(&self.d, before)

    def set_eviction(self, str policy, int samples=5, int log_factor=10, int decay=1,
                     int tenacity=10):
        """What happens at max_memory: see Replica.set_eviction. tenacity: 0 to 100, how long one go
        may take, as Redis's maxmemory-eviction-tenacity."""
        cdef uint32_t before = self.d.kernel.eviction.policy
        cdef double usec = 50 * tenacity if tenacity <= 10 else 500 * 1.15 ** (tenacity - 10)
        self.replica.set_eviction(policy, samples, log_factor, decay)
        self.d.room.ticks = <uint64_t>-1
        if tenacity < 100:
            self.d.room.ticks = <uint64_t>(usec * self.d.stopwatch.per_usec)
        limit_changed(&self.d, self.d.max_memory if before else 0)

    def eviction_stats(self) -> dict:
        """evicted: keys; over_ms: how long memory has been beyond max_memory under a policy,
        over_now_ms: and how much of that without an end yet; foreign: bytes of it that other
        replicas are to evict."""
        cdef Room *r = &self.d.room
        now = self.d.steady - r.over_since if r.over_since else 0
        return {"evicted": self.d.kernel.eviction.evicted, "over_ms": r.over_ms + now,
                "over_now_ms": now, "foreign": r.foreign}

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
    def busy_reply_threshold(self) -> int:
        """Milliseconds after which a script is slow; 0: never."""
        return self.d.scripting.busy_ms

    @busy_reply_threshold.setter
    def busy_reply_threshold(self, int64_t ms):
        self.d.scripting.busy_ms = ms

    @property
    def script_memory(self) -> int:
        """Bytes that scripts may hold; what runs already keeps the limit it had."""
        return self.d.scripting.memory

    @script_memory.setter
    def script_memory(self, size_t value):
        self.d.scripting.memory = value

    @property
    def runs_script(self) -> bool:
        return self.d.scripting.run != NULL

    def running_function(self) -> dict | None:
        """{"name", "command", "duration_ms"} of the function that runs, for FUNCTION STATS."""
        cdef ScriptRun *run = self.d.scripting.run
        cdef int i
        if run == NULL or not run.flags & SCRIPT_FUNCTION:
            return None
        argv = [run.argv[i].p[:run.argv[i].n] for i in range(run.argc)]
        return {"name": argv[1], "command": argv,
                "duration_ms": clock_ms(CLOCK_MONOTONIC) - run.begun}

    @property
    def scripts_run_all(self) -> bool:
        """Whether scripts may call the commands that are not for them: for tests."""
        return self.d.scripting.all_commands

    @scripts_run_all.setter
    def scripts_run_all(self, bint value):
        self.d.scripting.all_commands = value

    @property
    def clock_ahead(self) -> bool:
        """Are writes refused because the stamps run ahead of the clock?"""
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
        for i in range(self.d.table.mask + 1):
            cmd = self.d.table.slots[i]
            if cmd != NULL and (cmd.calls or cmd.rejected):
                out[cmd.name.decode()] = (cmd.calls,
                                          int(<double>cmd.ticks / self.d.stopwatch.per_usec),
                                          cmd.rejected, cmd.failed)
        return out

    def latencies(self) -> dict:
        """Name -> (calls by how long they took: up to 1, 2, 4 ... 2**22 µs, and longer; µs of
        these calls together). Of commands called at least once."""
        cdef uint32_t i
        cdef Command *cmd
        cdef uint64_t ticks
        out = {}
        for i in range(self.d.table.mask + 1):
            cmd = self.d.table.slots[i]
            if cmd != NULL and cmd.calls:
                ticks = (0 if self.d.stopwatch.untracked else cmd.ticks) - cmd.untimed
                out[cmd.name.decode()] = ([cmd.took[j] for j in range(LATENCIES)],
                                          int(<double>ticks / self.d.stopwatch.per_usec))
        return out

    def error_stats(self) -> dict:
        """Error code -> count."""
        return {self.d.errors[i].code.decode("utf-8", "replace"): self.d.errors[i].count
                for i in range(ERROR_CODES) if self.d.errors[i].count}

    def limit_subscriptions(self, size_t bytes, uint32_t each):
        """bytes: that the subscriptions of all clients may take. each: how many one may have."""
        self.d.pubsub.most = bytes
        self.d.pubsub.most_each = each

    @property
    def notify(self) -> str:
        """The letters of notify-keyspace-events, in the order of EVENT_LETTERS."""
        return "".join([x for x in EVENT_LETTERS if self.d.notify.flags & notify_bit(x)])

    @notify.setter
    def notify(self, str letters):
        self.d.notify.flags = 0
        if "K" in letters or "E" in letters:
            for x in letters:
                self.d.notify.flags |= notify_bit(x)
        update_wishes(&self.d)

    def set_pubsub_local(self, list patterns):
        """Patterns, as bytes, of channels whose messages stay at this replica."""
        cdef Span *spans = <Span*>need_memory(malloc(sizeof(Span) * (len(patterns) + 1)))
        cdef bytes pattern
        for i, pattern in enumerate(patterns):
            spans[i] = span(PyBytes_AS_STRING(pattern), <size_t>PyBytes_GET_SIZE(pattern))
        set_local_patterns(&self.d, spans, <int>len(patterns))
        free(spans)

    def message_stats(self) -> dict:
        """Messages sent to other replicas, received from them, and dropped; bytes of those that
        wait for ops."""
        return {"sent": self.d.abroad.sent, "received": self.d.abroad.received,
                "dropped": self.d.abroad.dropped, "waiting_bytes": self.d.abroad.parked_bytes}

    # -- consumer groups: see replication/delivering.py

    @property
    def consumer_patience(self) -> int:
        """Ms that a group has a consumer here after an XREADGROUP."""
        return self.d.consumers.patience

    @consumer_patience.setter
    def consumer_patience(self, int64_t ms):
        self.d.consumers.patience = ms

    def give(self, int mode, list rights) -> tuple[int, int]:
        """Which entries of groups are given out here from now on: mode as GiveMode; rights:
        [((database, key, name), delivering.Right or None)], of other groups than before what was
        said holds as long as the mode does. Returns actor and seq of the newest op made here."""
        cdef bytes key, name, but
        cdef uint32_t db
        cdef Portion right
        cdef Actor *newest = newest_own(self.d.kernel)
        give_mode(&self.d, mode)
        for (db, key, name), said in rights:
            if said is None:
                give_right(&self.d, db, span(key, len(key)), span(name, len(name)), NULL, 0)
                continue
            but = b"".join([x.encode() + b"\0" for x in sorted(said.but)])
            right.own = said.own
            right.rest = said.rest
            right.but = span(but, len(but))
            give_right(&self.d, db, span(key, len(key)), span(name, len(name)), &right,
                       said.settled)
        return newest.id, newest.applied

    def gives(self, uint32_t db, bytes key) -> dict:
        """Of a stream's groups that somebody reads here or elsewhere: {name: what is given out
        here}. Cost: linear in the groups of all streams."""
        cdef Consumers *s = &self.d.consumers
        cdef Consumed *x
        cdef const Portion *by
        cdef uint32_t i
        cdef int settled
        cdef bytes but
        out = {}
        for i in range(s.mask + 1 if s.chains != NULL else 0):
            x = s.chains[i]
            while x != NULL:
                if x.db == db and x.key_n == <size_t>len(key) and (
                        memcmp(consumed_key(x).p, <const char*>key, x.key_n) == 0):
                    by = right_of(s, x, &settled) if s.mode != GIVE_ALL else NULL
                    but = b"" if by == NULL else by.but.p[:by.but.n]
                    out[consumed_group(x).p[:x.group_n]] = {
                        "consumer": x.used >= 0, "settled": by == NULL or settled != 0,
                        "own": by == NULL or by.own != 0, "others": by == NULL or by.rest != 0,
                        "but": [name for name in but.decode().split("\0") if name]}
                x = x.next
        return out

    def pubsub_stats(self) -> dict:
        """How many channels, patterns and shard channels somebody listens to, and how many clients
        do; the bytes that it takes."""
        return {"channels": self.d.pubsub.counts[<int>TOPIC_CHANNEL],
                "patterns": self.d.pubsub.counts[<int>TOPIC_PATTERN],
                "shard_channels": self.d.pubsub.counts[<int>TOPIC_SHARD],
                "clients": self.d.pubsub.clients, "bytes": self.d.pubsub.bytes}

    @property
    def tracking_table_max_keys(self) -> int:
        """Keys that are tracked for client-side caching; 0: no limit. What is beyond it goes with
        the end of the iteration."""
        return self.d.tracking.most

    @tracking_table_max_keys.setter
    def tracking_table_max_keys(self, size_t value):
        self.d.tracking.most = value

    def tracking_stats(self) -> dict:
        """Clients that track, keys tracked for them, readers of all these keys, and prefixes."""
        return {"clients": self.d.tracking.clients, "keys": self.d.tracking.key_n,
                "items": self.d.tracking.items, "prefixes": self.d.tracking.prefix_n}

    def reset_stats(self):
        cdef uint32_t i
        cdef Command *cmd
        cdef int64_t changes = self.d.stats.changes             # which it is not about
        memset(&self.d.stats, 0, sizeof(Stats))
        self.d.stats.changes = changes
        memset(self.d.errors, 0, sizeof(self.d.errors))
        self.d.kernel.eviction.evicted = 0
        self.d.room.over_ms = 0
        for i in range(self.d.table.mask + 1):
            cmd = self.d.table.slots[i]
            if cmd != NULL:
                cmd.calls = cmd.ticks = cmd.untimed = cmd.rejected = cmd.failed = 0
                memset(cmd.took, 0, sizeof(cmd.took))

    # -- slow log

    def set_slowlog(self, int64_t least, uint32_t max_len, int cost=COST_TIME):
        """Commands that take at least so many microseconds (COST_TIME), or bytes of request or
        reply, are kept, the newest max_len of them; negative: none are."""
        cdef SlowLog *log = &self.d.logs[cost]
        log.least = <uint64_t>-1
        if least >= 0:
            log.least = (<uint64_t>least if cost != COST_TIME
                         else <uint64_t>(<double>least * self.d.stopwatch.per_usec))
        look_from(&self.d)
        if max_len != log.size:
            slowlog_resize(log, max_len)

    def set_commandlogs(self, settings):
        """All three as the settings say, which are attributes of theirs."""
        self.set_slowlog(settings.slowlog_log_slower_than, settings.slowlog_max_len)
        self.set_slowlog(settings.commandlog_request_larger_than,
                         settings.commandlog_large_request_max_len, COST_REQUEST)
        self.set_slowlog(settings.commandlog_reply_larger_than,
                         settings.commandlog_large_reply_max_len, COST_REPLY)

    # -- HOTKEYS

    @property
    def hotkeys_active(self) -> bool:
        """Whether commands are counted by their keys."""
        return hot_active(&self.d)

    def hotkeys_start(self, bint cpu, bint net, uint32_t shown=10, int64_t seconds=0,
                      uint32_t sample=1):
        """Begins anew. shown: keys of each metric, at most 64; seconds: until it ends by itself, 0:
        it does not; sample: one command in so many, by chance."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        hot_start(&self.d, cpu, net, shown)
        self.d.hot.limit = 1000 * seconds
        self.d.hot.sample = sample
        self.d.hot.user, self.d.hot.system = used.ru_utime, used.ru_stime

    def hotkeys_stop(self) -> bool:
        """What was counted stays. False: nothing was going on."""
        if not hot_active(&self.d):
            return False
        hot_stop(&self.d)
        return True

    def hotkeys_reset(self):
        """Forgets what was counted."""
        hot_free(&self.d)
        look_from(&self.d)

    def hotkeys(self) -> dict | None:
        """What HOTKEYS GET tells of the last session, by its names; None: there was none."""
        cdef HotKeys *h = self.d.hot
        cdef double per_usec = self.d.stopwatch.per_usec
        if h == NULL:
            return None
        active = hot_active(&self.d)
        used = resource.getrusage(resource.RUSAGE_SELF)
        out = {"tracking-active": active, "sample-ratio": h.sample, "selected-slots": [[0, 16383]],
               "all-commands-all-slots-us": <uint64_t>(<double>h.ticks / per_usec),
               "net-bytes-all-commands-all-slots": h.bytes,
               "collection-start-time-unix-ms": h.begun,
               "collection-duration-ms": self.d.steady - h.since if active else h.lasted}
        if h.tables[<int>HOT_CPU].most:
            out["total-cpu-time-user-ms"] = int(1000 * (used.ru_utime - h.user))
            out["total-cpu-time-sys-ms"] = int(1000 * (used.ru_stime - h.system))
        if h.tables[<int>HOT_NET].most:
            out["total-net-bytes"] = h.sampled
        if h.tables[<int>HOT_CPU].most:
            out["by-cpu-time-us"] = self.hottest(HOT_CPU, per_usec)
        if h.tables[<int>HOT_NET].most:
            out["by-net-bytes"] = self.hottest(HOT_NET, 1)
        return out

    cdef list hottest(self, int metric, double unit):
        """Key and cost in turn. What is less than one unit counts as one."""
        cdef HotKey **found = <HotKey**>need_memory(
            calloc(self.d.hot.tables[metric].most, sizeof(HotKey*)))
        cdef uint32_t i
        cdef list out = []
        for i in range(hot_found(&self.d.hot.tables[metric], self.d.hot.shown, found)):
            out += [found[i].name[:min(found[i].n, <size_t>HOT_NAME)],
                    <uint64_t>ceil(<double>hot_cost(found[i]) / unit)]
        free(found)
        return out

    # -- LATENCY

    @property
    def latency_tracking(self) -> bool:
        """Whether latencies() counts."""
        return not self.d.stopwatch.untracked

    @latency_tracking.setter
    def latency_tracking(self, bint on):
        cdef uint32_t i
        cdef Command *cmd
        if on != self.d.stopwatch.untracked:
            return
        self.d.stopwatch.untracked = not on
        for i in range(self.d.table.mask + 1):
            cmd = self.d.table.slots[i]
            if cmd != NULL:
                cmd.untimed += cmd.ticks if on else -cmd.ticks

    def set_latency_threshold(self, int64_t ms):
        """Events of at least so many ms are sampled; 0: none are."""
        self.d.latency.ticks = <uint64_t>-1
        if ms > 0:
            self.d.latency.ticks = <uint64_t>(<double>ms * 1000 * self.d.stopwatch.per_usec)
        look_from(&self.d)

    def latency_events(self) -> dict:
        """Event -> (the longest in ms, ever; samples, the oldest first, as (s since 1970, ms)), of
        events that have samples."""
        cdef Samples *s
        cdef uint64_t i
        cdef int event
        out = {}
        for event in range(LATENCY_EVENTS):
            s = &self.d.latency.events[event]
            if s.made:
                out[EVENT_NAMES[event]] = (s.longest, [
                    (s.kept[i % SAMPLES].at, s.kept[i % SAMPLES].ms)
                    for i in range(s.made - SAMPLES if s.made > SAMPLES else 0, s.made)])
        return out

    def forget_latency(self, events=EVENT_NAMES) -> int:
        """Forgets the samples of these events; how many of them had any."""
        return sum([forget_event(&self.d.latency, EVENT_NAMES.index(e)) for e in set(events)
                    if e in EVENT_NAMES])

    def set_encoding_limits(self, *, int64_t hash_max_listpack_entries=512,
                            int64_t hash_max_listpack_value=64, int64_t set_max_intset_entries=512,
                            int64_t set_max_listpack_entries=128, int64_t set_max_listpack_value=64,
                            int64_t zset_max_listpack_entries=128,
                            int64_t zset_max_listpack_value=64, int64_t list_max_listpack_size=-2,
                            int64_t hll_sparse_max_bytes=3000,
                            int64_t stream_node_max_entries=100,
                            int64_t stream_idmp_duration=PRODUCED_SECONDS,
                            int64_t stream_idmp_maxsize=PRODUCED_MOST):
        """What OBJECT ENCODING, PFADD, XTRIM and XADD IDMP go by, as the settings of these
        names."""
        cdef EncodingLimits *e = &self.d.encoding
        e.entries[<int>T_HASH] = hash_max_listpack_entries
        e.entries[<int>T_SET] = set_max_listpack_entries
        e.entries[<int>T_ZSET] = zset_max_listpack_entries
        e.value[<int>T_HASH] = hash_max_listpack_value
        e.value[<int>T_SET] = set_max_listpack_value
        e.value[<int>T_ZSET] = zset_max_listpack_value
        e.whole = set_max_intset_entries
        e.list_size = list_max_listpack_size
        e.hll_sparse = hll_sparse_max_bytes
        e.stream_node = stream_node_max_entries
        self.d.kernel.streams.known_seconds = stream_idmp_duration
        self.d.kernel.streams.known_most = stream_idmp_maxsize

    def slowlog(self, most: int = -1, int cost=COST_TIME) -> list:
        """Newest first: (id, seconds, usec or bytes, [args], addr, name)."""
        cdef SlowLog *log = &self.d.logs[cost]
        cdef SlowEntry *e
        cdef Span *argv = NULL
        cdef int cap = 0
        cdef int argc = 0
        cdef int i
        cdef uint64_t at = log.made
        out = []
        while at > 0 and at + log.size > log.made and most != len(out):
            at -= 1
            e = &log.entries[at % log.size]
            if e.args.n == 0:
                break
            unpack_command(e.args.p, &argv, &cap, &argc)
            out.append((e.id, e.at, e.cost, [argv[i].p[:argv[i].n] for i in range(argc)],
                        e.addr.decode(), text_of(e.name)))
        free(argv)
        return out

    def slowlog_reset(self, int cost=COST_TIME):
        cdef uint32_t i
        for i in range(self.d.logs[cost].size):
            self.d.logs[cost].entries[i].args.n = 0
