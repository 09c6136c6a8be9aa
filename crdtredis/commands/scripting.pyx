"""EVAL, EVALSHA and SCRIPT: the cache of scripts, and the joint between the VM (_lua) and the
engine.

A script runs without the GIL, on the loop's thread. Its text is compiled once and kept under its
SHA-1. The KEPT most recently used stay, fewer where the texts together exceed script_memory. The VM
is made at the first script, so a server without scripts pays for none.

What SCRIPT LOAD has loaded holds for all replicas: the system's database holds a hash `scripts`,
SHA-1 -> text, so it is logged, recovered and replicated. A script that is asked for and not
compiled is looked for there. SCRIPT FLUSH removes from it what this replica has observed. Where it
is full (SHARED_TEXTS, SHARED_BYTES), or nothing can be written there now, be it for CLIENT PAUSE, a
script is loaded at this replica alone and stays until SCRIPT FLUSH.

    EVAL "return redis.call('SET', KEYS[1], ARGV[1])" 1 k v
      sha1 -> compiled function -> run_script (_lua) -> host_call -> script_call (engine) -> SET

A script's first line may be a shebang, "#!lua flags=no-writes,allow-oom". With one the flags hold,
and what would refuse a write refuses the script before it begins; without one each command is
looked at by itself.
"""
import logging
import os

from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from crdtredis._core cimport (SYSTEM_DB, T_HASH, Collection, Element, Kernel, key_collection,
                              key_find, key_type, member_find, member_view, op_begin, op_end)
from crdtredis._engine cimport (CLIENT_COUNTED, GUARD_CLOCK, GUARD_MISCONF, GUARD_OOM, GUARD_WAIT,
                                SCRIPT_ALLOW_OOM, SCRIPT_READ_ONLY, Call, Dispatch, Executor,
                                ScriptRun, is_full, is_word, mark_wrote, monitor_show, native,
                                refuse, script_allowed, script_begin, script_call, script_end,
                                script_kill, script_tick)
from crdtredis._lua cimport (ENDS_KILLED, ENDS_NOT, SOURCE_MOST, Host, Vm, drop_script, load_script,
                             run_script, sha1_hex, vm_free, vm_new)
from crdtredis._resp cimport (PARSE_MORE, PARSE_READY, Parser, Reply, parser_fed, parser_free,
                              parser_init, parser_next, parser_room, reply_array, reply_bulk,
                              reply_error, reply_int, reply_ok)
from crdtredis.buffer cimport Span, buffer_free, need_memory, span
from crdtredis.errors cimport (CLOCK_AHEAD, JOINING, KEYS_NEGATIVE, KEYS_TOO_MANY, NOT_FROM_SCRIPT,
                               NOT_INTEGER, NO_SCRIPT, NO_SCRIPT_RUNS, SCRIPT_COMPILE,
                               SCRIPT_DEBUG, SCRIPT_FLUSH, SCRIPT_NO_DEBUG, SCRIPT_OUT_OF_MEMORY,
                               SCRIPT_TOO_LONG, SCRIPT_UNAVAILABLE, SCRIPT_UNKILLABLE,
                               SCRIPT_WRITES, SCRIPTS_FULL, SHEBANG_ENGINE, SHEBANG_FLAG,
                               SHEBANG_INVALID, SHEBANG_OPTION, SHEBANG_QUOTES, SYNTAX)
from crdtredis.numbers cimport parse_int64

from crdtredis import info
from crdtredis.commands.table import CountedKeys, command
from crdtredis.commands.usage import container

SCRIPTS = b"scripts"            # the key

log = logging.getLogger("crdtredis.scripts")

cdef enum:
    KEPT = 500              # scripts
    BUCKETS = 1024
    # in the system's database: scripts, and bytes of their texts
    SHARED_TEXTS = 1000
    SHARED_BYTES = 4 << 20
    REFUSAL = 512           # bytes

cdef enum TextFlag:
    TEXT_SHEBANG = 1        # it has one, so its flags hold
    TEXT_NO_WRITES = 2
    TEXT_ALLOW_OOM = 4
    TEXT_LOADED = 8         # at this replica alone
    TEXT_ONE_LINE = 16
    TEXT_SHARED = 32        # the system's database has it, or had
    TEXT_BAD = 64           # of a mark: that is another's text, or one that does not compile

# A script; or a mark: what is known of one that the system's database has under this name, without
# a body. A script stands before the mark of its name.
cdef struct Text:
    char sha[41]
    int ref                 # of the compiled function, in the VM
    uint32_t flags          # TextFlag
    char *body
    size_t n
    Text *next              # in its bucket
    Text *newer             # those not LOADED, by when they were used last
    Text *older

cdef struct Scripts:
    Vm *vm
    Dispatch *dispatch
    ScriptRun *run          # NULL: none runs
    Text *buckets[1024]
    Text *newest
    Text *oldest
    uint32_t n
    uint32_t listed         # of these, those on the list
    size_t bytes            # of the texts
    uint64_t evicted
    uint64_t version        # of the system's database, which the SHARED have been compared with
    uint64_t full           # that version of it in which there was no room ...
    size_t full_from        # ... for a text of so many bytes
    char refusal[512]       # REFUSAL: why the last text was not taken


# ---- the cache -----------------------------------------------------------------------------------

cdef class ScriptCache:
    """Owns the scripts of one Executor."""
    cdef Scripts s

    def __dealloc__(self):
        flush(&self.s)
        vm_free(self.s.vm)

    def stats(self) -> dict:
        return {"scripts": self.s.n, "text_bytes": self.s.bytes, "evicted": self.s.evicted,
                "vm_bytes": self.s.vm.used if self.s.vm != NULL else 0}


cdef inline Text **bucket(Scripts *s, const char *sha) noexcept nogil:
    """By the first digits, which are evenly spread."""
    cdef uint32_t h = 0
    cdef int i
    for i in range(4):
        h = h << 4 ^ <uint32_t>((sha[i] - c'0') if sha[i] <= c'9' else sha[i] - c'a' + 10)
    return &s.buckets[h % BUCKETS]


cdef Text *find(Scripts *s, const char *sha) noexcept nogil:
    cdef Text *t = bucket(s, sha)[0]
    while t != NULL and memcmp(t.sha, sha, 40) != 0:
        t = t.next
    return t


cdef void put_first(Scripts *s, Text *t, const char *sha) noexcept nogil:
    cdef Text **at = bucket(s, sha)
    memcpy(t.sha, sha, 41)
    t.next = at[0]
    at[0] = t


cdef void unlink_text(Scripts *s, Text *t) noexcept nogil:
    """From the list."""
    if t.newer != NULL:
        t.newer.older = t.older
    else:
        s.newest = t.older
    if t.older != NULL:
        t.older.newer = t.newer
    else:
        s.oldest = t.newer
    s.listed -= 1


cdef void link_newest(Scripts *s, Text *t) noexcept nogil:
    t.newer = NULL
    t.older = s.newest
    if s.newest != NULL:
        s.newest.newer = t
    else:
        s.oldest = t
    s.newest = t
    s.listed += 1


cdef void drop(Scripts *s, Text *t) noexcept nogil:
    cdef Text **at = bucket(s, t.sha)
    while at[0] != t:
        at = &at[0].next
    at[0] = t.next
    if t.body != NULL:
        if not t.flags & TEXT_LOADED:
            unlink_text(s, t)
        s.n -= 1
        s.bytes -= t.n + sizeof(Text)
        drop_script(s.vm, t.ref)
        free(t.body)
    free(t)


cdef void flush(Scripts *s) noexcept nogil:
    cdef int i
    for i in range(BUCKETS):
        while s.buckets[i] != NULL:
            drop(s, s.buckets[i])


# ---- texts ---------------------------------------------------------------------------------------

cdef int read_flags(char *refusal, const char *begin, const char *end,
                    uint32_t *flags) noexcept nogil:
    """The list behind "flags="."""
    cdef const char *p = begin
    cdef const char *comma
    cdef size_t n
    while p <= end and end > begin:
        comma = <const char*>memchr(p, c',', <size_t>(end - p))
        if comma == NULL:
            comma = end
        n = <size_t>(comma - p)
        if n == 9 and memcmp(p, b"no-writes", 9) == 0:
            flags[0] |= TEXT_NO_WRITES
        elif n == 9 and memcmp(p, b"allow-oom", 9) == 0:
            flags[0] |= TEXT_ALLOW_OOM
        elif not ((n == 11 and memcmp(p, b"allow-stale", 11) == 0)
                  or (n == 10 and memcmp(p, b"no-cluster", 10) == 0)
                  or (n == 21 and memcmp(p, b"allow-cross-slot-keys", 21) == 0)):
            refuse_part(refusal, SHEBANG_FLAG, p, n)
            return 0
        p = comma + 1
    return 1


cdef void refuse_part(char *refusal, const char *text, const char *p, size_t n) noexcept nogil:
    """The refusal, with a part of the shebang in it."""
    cdef char part[129]
    if refusal == NULL:
        return
    n = min(n, <size_t>128)
    memcpy(part, p, n)
    part[n] = 0
    snprintf(refusal, REFUSAL, text, part)


cdef int read_words(Parser *line, const char *p, size_t n, uint32_t *flags,
                    char *refusal) noexcept nogil:
    """Of the line of n bytes, its end included: words as those of an inline command, which may be
    quoted."""
    cdef int status = PARSE_MORE
    cdef size_t room
    cdef char *to
    cdef Span word
    cdef int i
    while n and status == PARSE_MORE:
        to = parser_room(line, &room)
        room = min(room, n)
        memcpy(to, p, room)
        parser_fed(line, room)
        p += room
        n -= room
        status = parser_next(line)
    if status != PARSE_READY:
        refuse_part(refusal, SHEBANG_QUOTES, "", 0)
        return 0
    word = line.argv[0]
    if word.n != 5 or memcmp(word.p, b"#!lua", 5) != 0:
        refuse_part(refusal, SHEBANG_ENGINE, word.p, word.n)
        return 0
    for i in range(1, line.argc):
        word = line.argv[i]
        if word.n < 6 or memcmp(word.p, b"flags=", 6) != 0:
            refuse_part(refusal, SHEBANG_OPTION, word.p, word.n)
            return 0
        if not read_flags(refusal, word.p + 6, word.p + word.n, flags):
            return 0
    return 1


cdef const char *read_shebang(Span body, uint32_t *flags, char *refusal) noexcept nogil:
    """Where the program begins: at the end of the first line, so that lines keep their numbers.
    NULL where the line is refused: why stands in refusal, which may be NULL."""
    cdef const char *end
    cdef Parser line
    cdef int good
    flags[0] = 0
    if body.n < 2 or body.p[0] != c'#' or body.p[1] != c'!':
        return body.p
    end = <const char*>memchr(body.p, c'\n', body.n)
    if end == NULL:
        refuse_part(refusal, SHEBANG_INVALID, "", 0)
        return NULL
    flags[0] = TEXT_SHEBANG
    parser_init(&line, 0)
    good = read_words(&line, body.p, <size_t>(end + 1 - body.p), flags, refusal)
    parser_free(&line)
    return end if good else NULL


cdef Text *compile(Scripts *s, Span body, const char *sha) noexcept nogil:
    """A new text; NULL, and s.refusal, where it is refused."""
    cdef uint32_t flags
    cdef const char *program
    cdef const char *line
    cdef Text *t
    cdef int ref
    if body.n > SOURCE_MOST:
        refuse_part(s.refusal, SCRIPT_TOO_LONG, "", 0)
        return NULL
    program = read_shebang(body, &flags, s.refusal)
    if program == NULL:
        return NULL
    ref = load_script(s.vm, program, body.n - <size_t>(program - body.p), "@user_script")
    if ref < 0:
        s.vm.error[min(s.vm.error_n, <size_t>400)] = 0
        snprintf(s.refusal, REFUSAL, SCRIPT_COMPILE, s.vm.error)
        return NULL
    t = <Text*>calloc(1, sizeof(Text))
    if t != NULL:
        t.body = <char*>malloc(body.n + 1)
    if t == NULL or t.body == NULL:
        free(t)
        drop_script(s.vm, ref)
        refuse_part(s.refusal, SCRIPT_TOO_LONG, "", 0)
        return NULL
    memcpy(t.body, body.p, body.n)
    t.n = body.n
    t.ref = ref
    line = <const char*>memchr(program, c'\n', body.n - <size_t>(program - body.p))
    t.flags = flags | (TEXT_ONE_LINE if line == NULL else 0)
    put_first(s, t, sha)
    s.n += 1
    s.bytes += t.n + sizeof(Text)
    link_newest(s, t)
    while s.listed > KEPT or (s.bytes > s.vm.most and s.listed > 1):
        s.evicted += 1
        drop(s, s.oldest)
    if s.bytes > s.vm.most:
        drop(s, t)
        refuse_part(s.refusal, SCRIPTS_FULL, "", 0)
        return NULL
    return t


# ---- those of all replicas -----------------------------------------------------------------------

cdef Span shared_text(Kernel *k, const char *sha) noexcept nogil:
    """p is NULL where there is none."""
    cdef Element *e = key_find(k, SYSTEM_DB, span("scripts", 7))
    cdef Collection *c
    if e == NULL or key_type(k, e) != T_HASH:
        return span(NULL, 0)
    c = key_collection(k, e, T_HASH)
    e = member_find(k, c, span(sha, 40)) if c != NULL else NULL
    return member_view(k, e) if e != NULL else span(NULL, 0)


cdef void drop_flushed(Scripts *s, Kernel *k) noexcept nogil:
    """Those that SCRIPT FLUSH has removed, here or elsewhere; and all marks, since another text may
    have come in place of what they were made for."""
    cdef Text *t
    cdef Text *next
    cdef int i
    for i in range(BUCKETS):
        next = s.buckets[i]
        while next != NULL:
            t = next
            next = t.next
            if t.body == NULL or (t.flags & TEXT_SHARED and shared_text(k, t.sha).p == NULL):
                drop(s, t)
    s.version = k.system_changes


cdef Text *known(Scripts *s, Kernel *k, const char *sha) noexcept nogil:
    """A script of the cache, or the mark of one that was loaded at any replica; else NULL. Looks at
    a text once: peers may have put many, large and bad ones there, and clients ask for them again
    and again."""
    cdef Text *t = find(s, sha)
    cdef Span text
    cdef char is_of[41]
    if t == NULL:
        text = shared_text(k, sha)
        if text.p == NULL:
            return NULL
        t = <Text*>need_memory(calloc(1, sizeof(Text)))
        sha1_hex(text.p, text.n, is_of)
        if memcmp(is_of, sha, 40) != 0:
            t.flags = TEXT_BAD
        put_first(s, t, sha)
    return t if not t.flags & TEXT_BAD else NULL


cdef Text *look_up(Scripts *s, Kernel *k, const char *sha) noexcept nogil:
    """A script of the cache, or one that was loaded at any replica, compiled; else NULL."""
    cdef Text *mark
    cdef Text *t
    if s.version != k.system_changes:
        drop_flushed(s, k)
    mark = known(s, k, sha)
    if mark == NULL or mark.body != NULL:
        return mark
    t = compile(s, shared_text(k, sha), sha)
    if t != NULL:
        t.flags |= TEXT_SHARED
    else:
        mark.flags |= TEXT_BAD
    return t


cdef int share(Call *c, Text *t) noexcept with gil:
    """Into the system's database. 0: not now."""
    cdef Executor x = <Executor>c.dispatch.executor
    cdef Scripts *s = <Scripts*>c.dispatch.scripting.cache
    replica, sync = x.replica, info.parts(x).sync
    if sync is not None and sync.too_old():
        return 0
    texts = replica.system_hash(SCRIPTS)
    if len(texts) >= SHARED_TEXTS or sum(map(len, texts.values())) + t.n > <size_t>SHARED_BYTES:
        s.full = c.kernel.system_changes
        s.full_from = 0 if len(texts) >= SHARED_TEXTS else t.n
        return 0
    try:
        replica.system_set(SCRIPTS, {t.sha[:40]: t.body[:t.n]})
    except RuntimeError:
        return 0
    return 1


cdef const char *unshare(Call *c) noexcept with gil:
    """Out of it, with all others. Why not, or NULL."""
    replica = (<Executor>c.dispatch.executor).replica
    texts = replica.system_hash(SCRIPTS)
    if not texts:
        return NULL
    if c.dispatch.guard & GUARD_MISCONF:
        return c.dispatch.misconf
    if c.dispatch.guard & GUARD_CLOCK:
        return CLOCK_AHEAD
    try:
        replica.system_set(SCRIPTS, dict.fromkeys(texts))
    except RuntimeError:
        return JOINING
    return NULL


# ---- what a script asks for ----------------------------------------------------------------------

cdef void host_call(void *self, Vm *vm, Span *argv, int argc, Span *reply) noexcept nogil:
    script_call((<Scripts*>self).run, argv, argc, vm.resp, reply)


cdef int host_tick(void *self, int64_t now) noexcept nogil:
    return ENDS_KILLED if script_tick((<Scripts*>self).run, now) else ENDS_NOT


cdef int host_allowed(void *self, Span *argv, int argc) noexcept nogil:
    return script_allowed((<Scripts*>self).dispatch, argv, argc)


cdef int script_reads_only(Dispatch *d, Span script) noexcept nogil:
    """Of EVAL's text, or EVALSHA's name."""
    cdef Scripts *s = <Scripts*>d.scripting.cache
    cdef char sha[41]
    cdef uint32_t flags
    cdef Text *t = NULL
    cdef Span text
    if script.n == 40:
        lower_sha(script, sha)
        if s != NULL:
            t = find(s, sha)
        if t != NULL and t.body != NULL:
            return t.flags & TEXT_NO_WRITES != 0
        text = shared_text(d.kernel, sha)
        if text.p != NULL:
            script = text
    return read_shebang(script, &flags, NULL) != NULL and flags & TEXT_NO_WRITES != 0


cdef void host_note(void *self, int level, const char *p, size_t n) noexcept with gil:
    log.log(LEVELS[level], "%s", p[:n].decode("utf-8", "backslashreplace"))

LEVELS = [logging.DEBUG, logging.DEBUG, logging.INFO, logging.WARNING]


cdef Vm *new_vm(Dispatch *d, Host *host) except NULL:
    cdef Vm *vm
    cdef Reply nowhere
    cdef bytes seed = b"math.randomseed(%d)" % int.from_bytes(os.urandom(6), "little")
    cdef int ref
    host.note = host_note
    vm = vm_new(d.scripting.memory, host[0])
    memset(&nowhere, 0, sizeof(Reply))
    ref = load_script(vm, seed, len(seed), "=seed")
    run_script(vm, ref, "", NULL, 0, NULL, 0, &nowhere)
    buffer_free(&nowhere.buf)
    drop_script(vm, ref)
    return vm


cdef void make_scripts(Call *c) noexcept with gil:
    """The VM, at the first script."""
    cdef Executor x = <Executor>c.dispatch.executor
    cdef ScriptCache cache
    cdef Host host
    cdef char text[512]
    try:
        cache = ScriptCache()
        memset(&host, 0, sizeof(host))
        host.self = &cache.s
        host.call = host_call
        host.tick = host_tick
        host.allowed = host_allowed
        cache.s.dispatch = c.dispatch
        cache.s.full = UINT64_MAX
        cache.s.vm = new_vm(c.dispatch, &host)
        x.scripts = cache
        c.dispatch.scripting.cache = &cache.s
    except Exception as e:
        log.error("%s", e)
        reason = str(e).encode("utf-8", "replace")
        snprintf(text, sizeof(text), SCRIPT_UNAVAILABLE, <const char*>reason)
        reply_error(c.reply, text)


cdef inline Scripts *scripts_of(Call *c) noexcept nogil:
    """NULL after a refusal."""
    if c.dispatch.scripting.run != NULL:
        refuse(c, NOT_FROM_SCRIPT)
        return NULL
    if c.dispatch.scripting.cache == NULL:
        make_scripts(c)
    return <Scripts*>c.dispatch.scripting.cache


# ---- EVAL and its kin ----------------------------------------------------------------------------

cdef int may_run(Call *c, Text *t, int read_only, uint32_t *flags) noexcept nogil:
    """What the whole script is refused for; else the flags of its run."""
    if t.flags & TEXT_SHEBANG:
        return may_run_flagged(c, (t.flags & TEXT_NO_WRITES) != 0, (t.flags & TEXT_ALLOW_OOM) != 0,
                               read_only, flags)
    flags[0] = SCRIPT_READ_ONLY if read_only else 0
    return 1


cdef int may_run_flagged(Call *c, int no_writes, int allow_oom, int read_only,
                         uint32_t *flags) noexcept nogil:
    cdef Dispatch *d = c.dispatch
    flags[0] = SCRIPT_READ_ONLY if read_only or no_writes else 0
    if no_writes or allow_oom:
        flags[0] |= SCRIPT_ALLOW_OOM
    if not no_writes:
        if read_only:
            refuse(c, SCRIPT_WRITES)
            return 0
        if d.guard & GUARD_MISCONF:
            refuse(c, d.misconf)
            return 0
        if d.guard & GUARD_CLOCK:
            refuse(c, CLOCK_AHEAD)
            return 0
    if not flags[0] & SCRIPT_ALLOW_OOM and d.guard & GUARD_OOM and is_full(d):
        refuse(c, SCRIPT_OUT_OF_MEMORY)
        return 0
    return 1


cdef int read_key_count(Call *c, const char *no_number, int64_t *n) noexcept nogil:
    if not parse_int64(c.argv[2].p, c.argv[2].n, n):
        refuse(c, no_number)
    elif n[0] > c.argc - 3:
        refuse(c, KEYS_TOO_MANY)
    elif n[0] < 0:
        refuse(c, KEYS_NEGATIVE)
    else:
        return 1
    return 0


cdef void evaluate(Call *c, int by_sha, int read_only) noexcept nogil:
    cdef Scripts *s
    cdef Text *t = NULL
    cdef ScriptRun run
    cdef uint32_t flags
    cdef int64_t n
    cdef char sha[41]
    cdef int i
    monitor_show(c.dispatch, c.client, c.client.command, c.argv, c.argc)
    if by_sha and c.argv[1].n != 40:
        refuse(c, NO_SCRIPT)
        return
    if not read_key_count(c, NOT_INTEGER, &n):
        return
    s = scripts_of(c)
    if s == NULL:
        return
    if by_sha:
        lower_sha(c.argv[1], sha)
        t = look_up(s, c.kernel, sha)
        if t == NULL:
            refuse(c, NO_SCRIPT)
            return
    else:
        sha1_hex(c.argv[1].p, c.argv[1].n, sha)
        t = find(s, sha)
        if t == NULL or t.body == NULL:
            t = compile(s, c.argv[1], sha)
            if t == NULL:
                refuse(c, s.refusal)
                return
    if not t.flags & TEXT_LOADED and s.newest != t:
        unlink_text(s, t)
        link_newest(s, t)
    if not may_run(c, t, read_only, &flags):
        return
    script_begin(c, &run, flags)
    s.run = &run
    s.vm.due = 0
    s.vm.single_line = (t.flags & TEXT_ONE_LINE) != 0
    if not run_script(s.vm, t.ref, t.sha, c.argv + 3, <int>n, c.argv + 3 + n,
                      c.argc - 3 - <int>n, c.reply) and s.vm.counted:
        c.client.flags |= CLIENT_COUNTED
    s.run = NULL
    script_end(&run)


cdef void lower_sha(Span arg, char *out) noexcept nogil:
    """40 characters. Where one is no digit, what no script has."""
    cdef int i
    cdef char ch
    for i in range(40):
        ch = arg.p[i]
        if c'A' <= ch <= c'F':
            ch |= 32
        if not (c'0' <= ch <= c'9' or c'a' <= ch <= c'f'):
            memset(out, c'0', 40)
            out[0] = c'?'
            break
        out[i] = ch
    out[40] = 0


cdef void eval_(Call *c) noexcept nogil:
    evaluate(c, 0, 0)


cdef void evalsha(Call *c) noexcept nogil:
    evaluate(c, 1, 0)


cdef void eval_ro(Call *c) noexcept nogil:
    evaluate(c, 0, 1)


cdef void evalsha_ro(Call *c) noexcept nogil:
    evaluate(c, 1, 1)


# ---- SCRIPT --------------------------------------------------------------------------------------

cdef void script_load(Call *c) noexcept nogil:
    cdef Scripts *s = scripts_of(c)
    cdef Text *t
    cdef char sha[41]
    if s == NULL:
        return
    sha1_hex(c.argv[2].p, c.argv[2].n, sha)
    t = look_up(s, c.kernel, sha)
    if t == NULL:
        t = compile(s, c.argv[2], sha)
        if t == NULL:
            refuse(c, s.refusal)
            return
    if not t.flags & TEXT_SHARED:
        if ((s.full != c.kernel.system_changes or t.n < s.full_from)
                and not c.dispatch.guard & (GUARD_MISCONF | GUARD_CLOCK | GUARD_WAIT)):
            op_begin(c.kernel)
            if share(c, t):
                t.flags |= TEXT_SHARED
            if op_end(c.kernel):
                mark_wrote(c.dispatch, c.client)
        if t.flags & TEXT_SHARED and t.flags & TEXT_LOADED:
            t.flags &= ~<uint32_t>TEXT_LOADED
            link_newest(s, t)
        elif not t.flags & (TEXT_SHARED | TEXT_LOADED):
            unlink_text(s, t)
            t.flags |= TEXT_LOADED
    reply_bulk(c.reply, t.sha, 40)


cdef Text *named(Call *c, Scripts *s, Span name) noexcept nogil:
    """NULL where there is no such script."""
    cdef char sha[41]
    if name.n != 40:
        return NULL
    lower_sha(name, sha)
    if s.version != c.kernel.system_changes:
        drop_flushed(s, c.kernel)
    return known(s, c.kernel, sha)


cdef void script_exists(Call *c) noexcept nogil:
    cdef Scripts *s = scripts_of(c)
    cdef int i
    if s == NULL:
        return
    reply_array(c.reply, c.argc - 2)
    for i in range(2, c.argc):
        reply_int(c.reply, named(c, s, c.argv[i]) != NULL)


cdef void script_show(Call *c) noexcept nogil:
    cdef Scripts *s = scripts_of(c)
    cdef Text *t
    cdef Span text
    if s == NULL:
        return
    t = named(c, s, c.argv[2])
    if t == NULL:
        refuse(c, NO_SCRIPT)
    else:
        text = span(t.body, t.n) if t.body != NULL else shared_text(c.kernel, t.sha)
        reply_bulk(c.reply, text.p, text.n)


cdef void script_flush(Call *c) noexcept nogil:
    cdef const char *why
    if c.argc > 3 or (c.argc == 3 and not is_word(c.argv[2], "SYNC")
                      and not is_word(c.argv[2], "ASYNC")):
        refuse(c, SCRIPT_FLUSH)
        return
    if c.dispatch.scripting.run != NULL:
        refuse(c, NOT_FROM_SCRIPT)
        return
    op_begin(c.kernel)
    why = unshare(c)
    if op_end(c.kernel):
        mark_wrote(c.dispatch, c.client)
    if why != NULL:
        refuse(c, why)
        return
    if c.dispatch.scripting.cache != NULL:
        drop_scripts(c)
    reply_ok(c.reply)


cdef void drop_scripts(Call *c) noexcept with gil:
    """The VM goes too, with all that scripts have left in it; the next script makes a new one."""
    c.dispatch.scripting.cache = NULL
    (<Executor>c.dispatch.executor).scripts = None


cdef void script_kill_(Call *c) noexcept nogil:
    reply_kill(c, script_kill(c.dispatch, 0))


cdef void reply_kill(Call *c, int done) noexcept nogil:
    if done == 0:
        refuse(c, NO_SCRIPT_RUNS)
    elif done == -1:
        refuse(c, SCRIPT_UNKILLABLE)
    elif done < 0:
        refuse(c, c.dispatch.scripting.busy_text)
    else:
        reply_ok(c.reply)


cdef void script_debug(Call *c) noexcept nogil:
    if is_word(c.argv[2], "NO"):
        reply_ok(c.reply)
    elif is_word(c.argv[2], "YES") or is_word(c.argv[2], "SYNC"):
        refuse(c, SCRIPT_NO_DEBUG)
    else:
        refuse(c, SCRIPT_DEBUG)


KEYS = [CountedKeys("RW access update", 2)]
READ_KEYS = [CountedKeys("RO access", 2)]
DEPENDS = "Depends on the script that is executed."
REPLICAS = ("One op: every replica applies all that the script wrote at once or none "
            "yet. The script "
            "itself does not travel, and each of its effects keeps its own rule against what other "
            "replicas did concurrently. What it tests before it writes is what this replica knows.")
FLAGS = "noscript skip_monitor may_replicate no_mandatory_keys stale"
READ_FLAGS = "noscript skip_monitor no_mandatory_keys stale readonly"

command("EVAL script numkeys [key]... [arg]...", arity=-3, flags=FLAGS, keys=KEYS,
        group="scripting", since="2.6.0", complexity=DEPENDS, replicas=REPLICAS,
        summary="Runs a Lua script.")(native(eval_, script_reads_only))
command("EVALSHA sha1 numkeys [key]... [arg]...", arity=-3, flags=FLAGS, keys=KEYS,
        group="scripting", since="2.6.0", complexity=DEPENDS, replicas=REPLICAS,
        summary="Runs a Lua script that is in the cache."
        )(native(evalsha, script_reads_only))
command("EVAL_RO script numkeys [key]... [arg]...", arity=-3, flags=READ_FLAGS, keys=READ_KEYS,
        group="scripting", since="7.0.0", complexity=DEPENDS,
        summary="Runs a Lua script that writes nothing.")(native(eval_ro))
command("EVALSHA_RO sha1 numkeys [key]... [arg]...", arity=-3, flags=READ_FLAGS, keys=READ_KEYS,
        group="scripting", since="7.0.0", complexity=DEPENDS,
        summary="Runs a Lua script of the cache that writes nothing.")(native(evalsha_ro))

container("SCRIPT", "scripting", "2.6.0", "The cache of Lua scripts.", help_since="5.0.0")
command("SCRIPT|LOAD script", arity=3, flags="noscript stale",
        group="scripting", since="2.6.0",
        complexity="O(N) with N the length in bytes of the script",
        tips="request_policy:all_nodes response_policy:all_succeeded",
        replicas="Every replica can run it by its SHA-1, until a SCRIPT FLUSH that observed it.",
        summary="Puts a script into the caches of all replicas; answers its SHA-1."
        )(native(script_load))
command("SCRIPT|EXISTS sha1...", arity=-3, flags="noscript", group="scripting", since="2.6.0",
        complexity="O(N) with N the number of digests",
        tips="request_policy:all_shards response_policy:agg_logical_and",
        summary="Which of these scripts are in the cache.")(native(script_exists))
command("SCRIPT|FLUSH [ASYNC | SYNC]", arity=-2, flags="noscript may_replicate",
        group="scripting", since="2.6.0",
        complexity="O(N) with N the number of scripts in cache",
        tips="request_policy:all_nodes response_policy:all_succeeded",
        replicas="What others load concurrently stays.",
        summary="Empties the cache of this replica, and forgets what was loaded at any."
        )(native(script_flush))
command("SCRIPT|KILL", arity=2, flags="noscript allow_busy", group="scripting", since="2.6.0",
        tips="request_policy:all_shards response_policy:one_succeeded",
        summary="Ends the script that runs, if it has written nothing.")(native(script_kill_))
command("SCRIPT|SHOW sha1", arity=3, flags="noscript", group="scripting", since="8.0.0",
        summary="The text of a script of the cache.")(native(script_show))
command("SCRIPT|DEBUG <YES | SYNC | NO>", arity=3, flags="noscript", group="scripting",
        since="3.2.0",
        summary="Refused, but for NO: scripts cannot be debugged here.")(native(script_debug))
