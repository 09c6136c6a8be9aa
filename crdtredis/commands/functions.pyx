# cython: wraparound=True
"""FUNCTION and FCALL: libraries of Lua functions that belong to the data.

The system's database holds a hash `functions`: library -> its text. So a library is logged,
recovered and replicated like a field of a hash: of concurrent LOADs of one library the later holds.
What runs is compiled from there when a function is called, or FUNCTION asked, after the database
has changed (`refresh`), library by library: one that stays keeps what its functions share.

Two libraries that were loaded concurrently may have a function of the same name. The one whose
library comes first by name is called, at every replica.
"""
import logging
import re

from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from crdtredis._engine cimport (CLIENT_COUNTED, SCRIPT_FUNCTION, Call, Dispatch, Executor,
                                ScriptRun, monitor_show, native, refuse, script_allowed,
                                script_begin, script_call, script_end, script_kill,
                                script_tick)
from crdtredis._lua cimport (ENDS_KILLED, ENDS_NOT, FUNCTION_ALLOW_OOM, FUNCTION_NO_WRITES,
                             SOURCE_MOST, Host, Registration, Vm, collect_dropped, drop_script,
                             load_library, run_function, steady_ms, vm_free)
from crdtredis._resp cimport Reply, reply_error
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span
from crdtredis.commands.rdb cimport (RDB_GOOD, RDB_STRING, RDB_TRAILER, RdbCursor, rdb_put_text,
                                     rdb_read, rdb_seal, rdb_sealed)
from crdtredis.commands.scripting cimport may_run_flagged, new_vm, read_key_count, reply_kill
from crdtredis.errors cimport FUNCTION_KEYS, FUNCTION_UNKNOWN, NOT_FROM_SCRIPT

from crdtredis import errors, info
from crdtredis._resp import Ordered, Simple
from crdtredis.commands.command import check_patterns
from crdtredis.commands.keys import matches
from crdtredis.commands.table import CountedKeys, command
from crdtredis.commands.usage import container
from crdtredis.errors import CommandError

log = logging.getLogger("crdtredis.scripts")

LIBRARIES = b"functions"                # the key
LIBRARIES_MOST = 10_000
FUNCTIONS_MOST = 10_000                 # of a library
LOAD_MS = 500                           # that a library may take to load
TOGETHER_MS = 2000                      # that many may take together
FLAG_NAMES = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
NAME = re.compile(rb"[A-Za-z0-9_]+")
OPCODE = 245                            # before a library's text, in Redis's snapshots and dumps
DUMP_VERSION = 10                       # of the format, since which there are libraries
OK = Simple("OK")

cdef enum:
    BUCKETS = 1024

cdef struct Function:
    Function *next          # in its bucket
    int ref
    uint32_t flags          # FunctionFlag
    size_t n
    char name[1]            # n bytes, lower case, and a NUL; more than this struct says

cdef struct Functions:
    Vm *vm
    Dispatch *dispatch
    ScriptRun *run
    void *loading           # the Library that registers functions, else NULL
    uint64_t version        # of the system's database, that `buckets` is made of
    Function *buckets[1024]


# ---- the table of functions ----------------------------------------------------------------------

cdef inline char lower(char ch) noexcept nogil:
    return ch | 32 if c'A' <= ch <= c'Z' else ch


cdef inline uint32_t bucket_of(Span name) noexcept nogil:
    cdef uint32_t h = 2166136261
    cdef size_t i
    for i in range(name.n):
        h = (h ^ <unsigned char>lower(name.p[i])) * 16777619
    return h % BUCKETS


cdef Function *find(Functions *f, Span name) noexcept nogil:
    cdef Function *x = f.buckets[bucket_of(name)]
    cdef size_t i
    while x != NULL:
        if x.n == name.n:
            i = 0
            while i < x.n and x.name[i] == lower(name.p[i]):
                i += 1
            if i == x.n:
                return x
        x = x.next
    return NULL


cdef void empty(Functions *f) noexcept nogil:
    cdef Function *x
    cdef int i
    for i in range(BUCKETS):
        while f.buckets[i] != NULL:
            x = f.buckets[i]
            f.buckets[i] = x.next
            free(x)


cdef int add(Functions *f, bytes name, int ref, uint32_t flags) except -1:
    cdef Span s = span(name, len(name))
    cdef Function *x = <Function*>calloc(1, sizeof(Function) + s.n)
    cdef size_t i
    if x == NULL:
        raise MemoryError
    for i in range(s.n):
        x.name[i] = lower(s.p[i])
    x.n = s.n
    x.ref = ref
    x.flags = flags
    x.next = f.buckets[bucket_of(s)]
    f.buckets[bucket_of(s)] = x
    return 0


# ---- what a function asks for --------------------------------------------------------------------

cdef void host_call(void *self, Vm *vm, Span *argv, int argc, Span *reply) noexcept nogil:
    script_call((<Functions*>self).run, argv, argc, vm.resp, reply)


cdef int host_tick(void *self, int64_t now) noexcept nogil:
    cdef Functions *f = <Functions*>self
    if f.loading != NULL:
        return ENDS_KILLED
    return ENDS_KILLED if script_tick(f.run, now) else ENDS_NOT


cdef int host_allowed(void *self, Span *argv, int argc) noexcept nogil:
    return script_allowed((<Functions*>self).dispatch, argv, argc)


cdef int function_reads_only(Dispatch *d, Span name) noexcept nogil:
    cdef Functions *f = up_to_date(d, NULL)
    cdef Function *x = find(f, name) if f != NULL else NULL
    return x != NULL and x.flags & FUNCTION_NO_WRITES != 0


cdef const char *host_take_function(void *self, Registration *r) noexcept with gil:
    cdef Library library = <Library>(<Functions*>self).loading
    return library.take(r)


# ---- libraries -----------------------------------------------------------------------------------

cdef class Library:
    """A library that is compiled. functions: [(name, description or None, flags, reference)]"""
    cdef readonly bytes name
    cdef readonly bytes text
    cdef readonly list functions
    cdef set names_taken
    cdef Functions *f

    cdef const char *take(self, Registration *r) noexcept:
        name = r.name.p[:r.name.n]
        description = r.description.p[:r.description.n] if r.description.p != NULL else None
        self.functions.append((name, description, r.flags, r.ref))      # first, so that it is freed
        if not NAME.fullmatch(name):
            return ("Library names can only contain letters, numbers, or underscores(_) and must "
                    "be at least one character long")   # Redis says so of functions, too
        if name in self.names_taken:
            return "Function already exists in the library"
        if len(self.functions) > FUNCTIONS_MOST:
            return "too many functions in the library"
        self.names_taken.add(name)
        return NULL

    cdef drop(self):
        for _, _, _, ref in self.functions:
            drop_script(self.f.vm, ref)
        self.functions = []
        collect_dropped(self.f.vm)

    def names(self) -> set:
        return {name.lower() for name, _, _, _ in self.functions}


def read_metadata(text: bytes) -> tuple[bytes, int]:
    """(name, where the program begins) of a library's text, whose first line is "#!lua name=...".
    CommandError where that is not so."""
    if not text.startswith(b"#!"):
        raise CommandError(errors.LIBRARY_METADATA)
    line, newline, _ = text.partition(b"\n")
    if not newline:
        raise CommandError(errors.LIBRARY_METADATA_INVALID)
    words = split(line[2:])
    engine = words.pop(0) if words and not line[2:3].isspace() else b""
    name = None
    for word in words:
        key, equals, value = word.partition(b"=")
        if not equals or key.lower() != b"name":
            raise CommandError(errors.LIBRARY_METADATA_VALUE % shown(word))
        if name is not None:
            raise CommandError(errors.LIBRARY_NAME_TWICE)
        name = value
    if name is None:
        raise CommandError(errors.LIBRARY_NAME_MISSING)
    if not NAME.fullmatch(name) or len(name) > 512:
        raise CommandError(errors.LIBRARY_NAME)
    if engine.lower() != b"lua":
        raise CommandError(errors.LIBRARY_ENGINE % shown(engine))
    return name, len(line)


WORD = re.compile(rb"""\s*((?:[^\s"']|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')+)""", re.S)
QUOTED = re.compile(rb"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.S)
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.S)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split(line: bytes) -> list[bytes]:
    """Its words, which may have parts in quotes. CommandError where a quote has no end."""
    def unescape(m):
        c = m[1]
        return bytes([int(c[1:], 16)]) if len(c) == 3 else ESCAPED.get(c, c)

    def unquote(m):
        if m[0][:1] == b'"':
            return ESCAPE.sub(unescape, m[0][1:-1])
        return m[0][1:-1].replace(b"\\'", b"'")

    words, at = [], 0
    line = line.rstrip()
    while at < len(line):
        m = WORD.match(line, at)
        if m is None:
            raise CommandError(errors.LIBRARY_METADATA_INVALID)
        words.append(QUOTED.sub(unquote, m[1]))
        at = m.end()
    return words


def shown(arg: bytes) -> str:
    return arg[:128].decode("utf-8", "backslashreplace")


cdef class LibraryCache:
    """The libraries of one Executor, compiled. loaded: name -> Library. broken: name -> the text
    that could not be loaded."""
    cdef Functions f
    cdef readonly dict loaded
    cdef dict broken

    def __dealloc__(self):
        empty(&self.f)
        vm_free(self.f.vm)

    def stats(self) -> dict:
        return {"libraries": len(self.loaded),
                "functions": sum(len(x.functions) for x in self.loaded.values()),
                "vm_bytes": self.f.vm.used,
                "text_bytes": sum(len(x.text) for x in self.loaded.values())}

    def compile(self, text: bytes, int64_t until=INT64_MAX) -> Library:
        """A library that is not called yet. CommandError, and nothing is left of it. until: as
        steady_ms() has it."""
        cdef Library library = Library.__new__(Library)
        cdef const char *p = text
        cdef size_t n = len(text), at
        cdef int good
        if n > SOURCE_MOST:
            raise CommandError(errors.LIBRARY_TOO_LONG)
        library.name, begin = read_metadata(text)
        library.text, library.functions, library.f = text, [], &self.f
        library.names_taken = set()
        at = begin
        self.f.loading = <void*>library
        self.f.vm.due = min(steady_ms() + <int64_t>LOAD_MS, until)
        self.f.vm.single_line = 0
        with nogil:
            good = load_library(self.f.vm, p + at, n - at)
        self.f.loading = NULL
        if not good:
            library.drop()
            raise CommandError(self.f.vm.error[:self.f.vm.error_n].decode("utf-8", "replace")
                               .replace("\r", " ").replace("\n", " "))
        if not library.functions:
            raise CommandError(errors.LIBRARY_EMPTY)
        return library

    def discard(self, Library library not None):
        library.drop()

    def put(self, dict libraries, uint64_t version):
        """These are the libraries now; of those that were, the others are dropped."""
        cdef Library library
        for library in self.loaded.values():
            if libraries.get(library.name) is not library:
                library.drop()
        self.loaded = libraries
        empty(&self.f)
        taken = set()
        for name in sorted(libraries):
            library = libraries[name]
            for function, _, flags, ref in library.functions:
                if function.lower() not in taken:
                    taken.add(function.lower())
                    add(&self.f, function, ref, flags)
        self.f.version = version

    def refresh(self, replica):
        """Compile what the system's database holds and is not compiled yet. Libraries of peers that
        loop until their time is up must not stop this replica for as long as all of them take:
        beyond TOGETHER_MS it is a CommandError, and the next call goes on."""
        if self.f.version == replica.system_changes:
            return
        texts = replica.system_hash(LIBRARIES)
        found, broken = {}, {}
        end = steady_ms() + TOGETHER_MS
        for name, text in sorted(texts.items()):
            library = self.loaded.get(name)
            if library is not None and library.text == text:
                found[name] = library
            elif self.broken.get(name) == text:
                broken[name] = text
            elif steady_ms() >= end:
                self.broken = {**self.broken, **broken}
                self.put({**self.loaded, **found}, UINT64_MAX)
                raise CommandError(errors.LIBRARIES_LATER)
            else:
                try:
                    library = self.compile(text)
                    if library.name != name:
                        self.discard(library)
                        raise CommandError(f"ERR the text is that of library {library.name!r}")
                    found[name] = library
                except CommandError as e:
                    broken[name] = text
                    log.error("library %s cannot be loaded: %s", shown(name), e)
        self.broken = broken
        self.put(found, replica.system_changes)


cdef LibraryCache make_cache(Executor x):
    cdef LibraryCache cache = LibraryCache()
    cdef Host host
    memset(&host, 0, sizeof(host))
    host.self = &cache.f
    host.call = host_call
    host.tick = host_tick
    host.allowed = host_allowed
    host.take_function = host_take_function
    cache.loaded, cache.broken = {}, {}
    cache.f.dispatch = &x.d
    cache.f.version = UINT64_MAX
    cache.f.vm = new_vm(&x.d, &host)
    x.functions = cache
    x.d.scripting.functions = &cache.f
    return cache


cdef LibraryCache libraries_of(Executor x):
    """Up to date. CommandError where there can be none."""
    cdef LibraryCache cache = x.functions
    if x.d.scripting.run != NULL:
        raise CommandError(errors.NOT_FROM_SCRIPT)
    try:
        if cache is None:
            cache = make_cache(x)
        cache.refresh(x.replica)
    except (RuntimeError, MemoryError) as e:
        raise CommandError(errors.SCRIPT_UNAVAILABLE.replace("%.300s", "%s") % e) from None
    return cache


cdef Functions *up_to_date(Dispatch *d, Reply *r) noexcept nogil:
    """NULL after a refusal. r may be NULL."""
    cdef Functions *f = <Functions*>d.scripting.functions
    if f != NULL and f.version == d.kernel.system_changes:
        return f
    return look_again(d, r) if d.scripting.run == NULL else NULL


cdef Functions *look_again(Dispatch *d, Reply *r) noexcept with gil:
    """Before a call, when the system's database has changed."""
    cdef bytes text
    try:
        libraries_of(<Executor>d.executor)
        return <Functions*>d.scripting.functions
    except Exception as e:
        log.error("%s", e)
        text = str(e).encode("utf-8", "replace")
        if r != NULL:
            reply_error(r, text)
        return NULL


# ---- FCALL ---------------------------------------------------------------------------------------

cdef void call_function(Call *c, int read_only) noexcept nogil:
    cdef Functions *f
    cdef Function *x
    cdef ScriptRun run
    cdef uint32_t flags
    cdef int64_t n
    cdef char name[129]
    monitor_show(c.dispatch, c.client, c.client.command, c.argv, c.argc)
    if c.dispatch.scripting.run != NULL:
        refuse(c, NOT_FROM_SCRIPT)
        return
    f = up_to_date(c.dispatch, c.reply)
    if f == NULL:
        return
    x = find(f, c.argv[1])
    if x == NULL:
        refuse(c, FUNCTION_UNKNOWN)
        return
    if not read_key_count(c, FUNCTION_KEYS, &n):
        return
    if not may_run_flagged(c, (x.flags & FUNCTION_NO_WRITES) != 0,
                           (x.flags & FUNCTION_ALLOW_OOM) != 0, read_only, &flags):
        return
    memset(name, 0, sizeof(name))
    memcpy(name, c.argv[1].p, min(c.argv[1].n, sizeof(name) - 1))
    script_begin(c, &run, flags | SCRIPT_FUNCTION)
    f.run = &run
    f.vm.due = 0
    f.vm.single_line = 0
    if not run_function(f.vm, x.ref, name, c.argv + 3, <int>n, c.argv + 3 + n,
                        c.argc - 3 - <int>n, c.reply) and f.vm.counted:
        c.client.flags |= CLIENT_COUNTED
    f.run = NULL
    script_end(&run)


cdef void fcall(Call *c) noexcept nogil:
    call_function(c, 0)


cdef void fcall_ro(Call *c) noexcept nogil:
    call_function(c, 1)


cdef void function_kill(Call *c) noexcept nogil:
    reply_kill(c, script_kill(c.dispatch, 1))


# ---- FUNCTION ------------------------------------------------------------------------------------

def store(session, LibraryCache cache, dict texts, dict libraries):
    """Write what has changed, texts as system_set takes them, and have these libraries from now
    on. CommandError, and all is as it was."""
    sync = info.parts(session.executor).sync
    old = sync.too_old() if texts and sync is not None else ""
    try:
        if texts and not old:
            session.replica.system_set(LIBRARIES, texts)
    except RuntimeError:
        why = errors.JOINING if session.replica.joining else errors.TOO_LARGE
    else:
        why = errors.REPLICA_TOO_OLD % old if old else ""
    if why:
        for name, library in libraries.items():
            if cache.loaded.get(name) is not library:
                cache.discard(library)
        raise CommandError(why)
    cache.put(libraries, session.replica.system_changes)


def find_twice(libraries: dict, library: Library) -> str | None:
    """A function of it that another of these has."""
    names = library.names()
    for name, other in libraries.items():
        if name != library.name and (twice := names & other.names()):
            return shown(min(twice))
    return None


def function_load(session, argv):
    """FUNCTION LOAD [REPLACE] function-code"""
    replace = False
    for word in argv[2:-1]:
        if word.upper() != b"REPLACE":
            raise CommandError(errors.FUNCTION_OPTION % shown(word))
        replace = True
    cache = libraries_of(session.executor)
    name, _ = read_metadata(argv[-1])
    libraries = dict(cache.loaded)
    if not replace and (name in libraries or name in session.replica.system_hash(LIBRARIES)):
        raise CommandError(errors.LIBRARY_EXISTS % shown(name))
    if name not in libraries and len(libraries) >= LIBRARIES_MOST:
        raise CommandError(errors.LIBRARIES_MANY)
    library = cache.compile(argv[-1])
    if (twice := find_twice(libraries, library)) is not None:
        cache.discard(library)
        raise CommandError(errors.FUNCTION_EXISTS % twice)
    libraries[name] = library
    store(session, cache, {name: argv[-1]}, libraries)
    return name


def function_delete(session, argv):
    cache = libraries_of(session.executor)
    if argv[2] not in session.replica.system_hash(LIBRARIES):
        raise CommandError(errors.LIBRARY_UNKNOWN)
    store(session, cache, {argv[2]: None},
          {name: x for name, x in cache.loaded.items() if name != argv[2]})
    return OK


def function_flush(session, argv):
    if len(argv) > 3:
        raise CommandError(errors.FUNCTION_ARITY % "flush")
    if len(argv) == 3 and argv[2].upper() not in (b"ASYNC", b"SYNC"):
        raise CommandError(errors.FUNCTION_FLUSH)
    cache = libraries_of(session.executor)
    store(session, cache, dict.fromkeys(session.replica.system_hash(LIBRARIES)), {})
    return OK


def function_list(session, argv):
    pattern, code = None, False
    words = iter(argv[2:])
    for word in words:
        if word.upper() == b"WITHCODE" and not code:
            code = True
        elif word.upper() == b"LIBRARYNAME" and pattern is None:
            pattern = next(words, None)
            if pattern is None:
                raise CommandError(errors.FUNCTION_PATTERN)
            check_patterns([pattern])
        else:
            raise CommandError(errors.FUNCTION_ARGUMENT % shown(word))
    out = []
    for name, library in sorted(libraries_of(session.executor).loaded.items()):
        if pattern is not None and not matches(pattern, name, True):
            continue
        row = {"library_name": name, "engine": "LUA", "functions": [
            {"name": function, "description": description,
             "flags": Ordered(tuple(Simple(FLAG_NAMES[i]) for i in range(len(FLAG_NAMES))
                                    if flags >> i & 1))}
            for function, description, flags, _ in library.functions]}
        if code:
            row["library_code"] = library.text
        out.append(row)
    return out


def function_stats(session, argv):
    running = session.executor.running_function()
    cache = session.executor.functions
    if session.executor.runs_script:
        loaded = cache.stats() if cache is not None else {"libraries": 0, "functions": 0}
    else:
        loaded = libraries_of(session.executor).stats()
    return {"running_script": running,
            "engines": {"LUA": {"libraries_count": loaded["libraries"],
                                "functions_count": loaded["functions"]}}}


def function_dump(session, argv):
    cdef Buffer b
    cdef bytes text
    cdef int i
    libraries = libraries_of(session.executor).loaded
    memset(&b, 0, sizeof(Buffer))
    out = []
    for name in sorted(libraries):
        b.n = 0
        text = libraries[name].text
        rdb_put_text(&b, span(text, len(text)))
        out.append(bytes([OPCODE]) + b.p[:b.n])
    text = b"".join(out)
    b.n = 0
    buffer_add(&b, <const char*>text, len(text))
    rdb_seal(&b, DUMP_VERSION)
    try:
        return b.p[:b.n]
    finally:
        buffer_free(&b)


cdef int keep_text(void *arg, Span name, Span value) noexcept with gil:
    (<list>arg).append(value.p[:value.n])
    return RDB_GOOD


def read_dump(payload: bytes) -> list[bytes]:
    """The texts. CommandError where it is no dump of libraries."""
    cdef RdbCursor at
    cdef const unsigned char *p = payload
    if len(payload) < RDB_TRAILER or not rdb_sealed(span(<const char*>p, len(payload))):
        raise CommandError(errors.FUNCTION_DUMP)
    texts = []
    at.p = p
    at.left = len(payload) - RDB_TRAILER
    while at.left:
        if at.p[0] != OPCODE:
            raise CommandError(errors.FUNCTION_DUMP_TYPE)
        at.p += 1
        at.left -= 1
        if rdb_read(&at, RDB_STRING, keep_text, <void*>texts) != RDB_GOOD:
            raise CommandError(errors.FUNCTION_DUMP)
        if len(texts) > LIBRARIES_MOST:
            raise CommandError(errors.LIBRARIES_MANY)
    return texts


def function_restore(session, argv):
    if len(argv) > 4:
        raise CommandError(errors.FUNCTION_ARITY % "restore")
    policy = argv[3].upper() if len(argv) == 4 else b"APPEND"
    if policy not in (b"FLUSH", b"APPEND", b"REPLACE"):
        raise CommandError(errors.FUNCTION_POLICY)
    texts = read_dump(argv[2])
    cache = libraries_of(session.executor)
    there = session.replica.system_hash(LIBRARIES)
    libraries = {} if policy == b"FLUSH" else dict(cache.loaded)
    changes = dict.fromkeys(there) if policy == b"FLUSH" else {}
    fresh = []
    until = steady_ms() + TOGETHER_MS
    try:
        for text in texts:
            library = cache.compile(text, until)
            fresh.append(library)
            if (policy == b"APPEND" and library.name in there
                    or any(library.name == other.name for other in fresh[:-1])):
                raise CommandError(errors.LIBRARY_RESTORED % shown(library.name))
            libraries[library.name] = library
            changes[library.name] = text
        if len(libraries) > LIBRARIES_MOST:
            raise CommandError(errors.LIBRARIES_MANY)
        for library in fresh:
            if (twice := find_twice(libraries, library)) is not None:
                raise CommandError(errors.FUNCTION_EXISTS % twice)
    except CommandError:
        for library in fresh:
            cache.discard(library)
        raise
    store(session, cache, changes, libraries)
    return OK


KEYS = [CountedKeys("RW access update", 2)]
READ_KEYS = [CountedKeys("RO access", 2)]
DEPENDS = "Depends on the function that is executed."
REPLICAS = ("One op: every replica applies all that the function wrote at once or none yet. The "
            "call itself does not travel. What it tests before it writes is what this replica "
            "knows.")
LATER = "Of concurrent loads and removals of one library the later holds."
SHARDS = "request_policy:all_shards response_policy:all_succeeded"

command("FCALL function numkeys [key]... [arg]...", arity=-3,
        flags="noscript skip_monitor may_replicate no_mandatory_keys stale", keys=KEYS,
        group="scripting", since="7.0.0", complexity=DEPENDS, replicas=REPLICAS,
        summary="Calls a function.")(native(fcall, function_reads_only))
command("FCALL_RO function numkeys [key]... [arg]...", arity=-3,
        flags="noscript skip_monitor no_mandatory_keys stale readonly", keys=READ_KEYS,
        group="scripting", since="7.0.0", complexity=DEPENDS,
        summary="Calls a function that writes nothing.")(native(fcall_ro))

container("FUNCTION", "scripting", "7.0.0", "Libraries of Lua functions.")
command("FUNCTION|LOAD [REPLACE] function-code", arity=-3, flags="noscript write denyoom",
        group="scripting", since="7.0.0", tips=SHARDS, replicas=LATER,
        complexity="O(1) (considering compilation time is redundant)",
        summary="Makes a library, at every replica; answers its name.")(function_load)
command("FUNCTION|DELETE library-name", arity=3, flags="noscript write", group="scripting",
        since="7.0.0", tips=SHARDS, replicas=LATER,
        summary="Removes a library and its functions.")(function_delete)
command("FUNCTION|FLUSH [ASYNC | SYNC]", arity=-2, flags="noscript write", group="scripting",
        since="7.0.0", complexity="O(N) with N the libraries", tips=SHARDS, replicas=LATER,
        summary="Removes all libraries.")(function_flush)
command("FUNCTION|LIST [LIBRARYNAME library-name-pattern] [WITHCODE]", arity=-2, flags="noscript",
        group="scripting", since="7.0.0", complexity="O(N) with N the functions",
        tips="nondeterministic_output_order",
        summary="The libraries and their functions.")(function_list)
command("FUNCTION|STATS", arity=2, flags="noscript allow_busy", group="scripting", since="7.0.0",
        tips="nondeterministic_output request_policy:all_shards response_policy:special",
        summary="The function that runs, and how many there are.")(function_stats)
command("FUNCTION|DUMP", arity=2, flags="noscript", group="scripting", since="7.0.0",
        complexity="O(N) with N the functions",
        summary="All libraries, as FUNCTION RESTORE takes them.")(function_dump)
command("FUNCTION|RESTORE serialized-value [FLUSH | APPEND | REPLACE]", arity=-3,
        flags="noscript write denyoom", group="scripting", since="7.0.0", tips=SHARDS,
        complexity="O(N) with N the functions", replicas=LATER,
        summary="Makes the libraries of a FUNCTION DUMP.")(function_restore)
command("FUNCTION|KILL", arity=2, flags="noscript allow_busy", group="scripting", since="7.0.0",
        tips="request_policy:all_shards response_policy:one_succeeded",
        summary="Ends the function that runs, if it has written nothing.")(native(function_kill))
