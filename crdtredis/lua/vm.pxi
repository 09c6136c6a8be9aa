# A Lua VM that a hostile script cannot leave, crash or keep busy for ever.
#
# Memory. An allocator counts what Lua holds and refuses what goes beyond the ceiling; Lua raises
# "not enough memory". Everything that C functions of ours build for a script is Lua's own memory
# (userdata), so it counts too.
#
# Time. A hook runs every HOOK_COUNT instructions and asks the clock; from `due` on it asks the
# host, which serves other clients and may say that the script is to end. From then on the hook
# raises an error at each instruction, so a script that catches errors ends as well. Functions that
# take long without an instruction make the hook run at the next one (`hurry`), or look
# themselves (`check_ending`). Lua's compiler walks some lists again for each part of an expression,
# so it gets a text in pieces, and the clock is looked at between.
#
# C stack. LuaJIT limits its own stack, but a coroutine that resumes a coroutine, and a C function
# that calls back, nest on the C stack without limit. The hook measures how deep it stands.
#
# What a script can reach is built in sandbox.pxi.

cdef extern from *:
    """
    #include <time.h>
    static inline int64_t steady_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    /* not the address of a variable, which a sanitizer may put elsewhere */
    #define stack_place() ((char *)__builtin_frame_address(0))
    """
    int64_t steady_now() noexcept nogil
    char *stack_place() noexcept nogil

cdef enum:
    LARGE_ALLOCATION = 1 << 18      # bytes: counted as work
    LARGE_WORK = 64 << 20           # bytes of these, after which the hook is to run soon
    GARBAGE = 4 << 20               # bytes above `idle` at which a run is followed by a collection

cdef const char *KILLED = "Script killed by user with SCRIPT KILL."


cdef int64_t steady_ms() noexcept nogil:
    return steady_now()


cdef void *allocate(void *ud, void *p, size_t osize, size_t nsize) noexcept nogil:
    cdef Vm *vm = <Vm*>ud
    cdef void *q
    if nsize == 0:
        if p != NULL:
            vm.used -= osize
            free(p)
        return NULL
    if p == NULL:
        osize = 0
    if nsize > osize and vm.used + (nsize - osize) > vm.most:
        return NULL
    if nsize >= LARGE_ALLOCATION:
        vm.work += nsize
        if vm.work >= LARGE_WORK and vm.L != NULL and vm.stack != NULL:
            hurry(vm.L, vm)
    q = realloc(p, nsize)
    if q != NULL:
        vm.used += nsize - osize
    return q


cdef Vm *vm_of(lua_State *L) noexcept nogil:
    cdef void *ud
    lua.getallocf(L, &ud)
    return <Vm*>ud


cdef void raise_text(lua_State *L, const char *text) noexcept nogil:
    lua.where(L, 1)
    lua.pushstring(L, text)
    lua.concat(L, 2)
    lua.error(L)


cdef void hurry(lua_State *L, Vm *vm) noexcept nogil:
    if not vm.hurried:
        vm.hurried = 1
        lua.sethook(L, hook, LUA_MASKCOUNT, 1)


cdef void check_ending(lua_State *L, Vm *vm) noexcept nogil:
    cdef int64_t now
    if vm.ending == ENDS_NOT:
        now = steady_now()
        if now >= vm.due:
            vm.due = now + 1
            if vm.host.tick != NULL:
                vm.ending = vm.host.tick(vm.host.self, now)
    if vm.ending != ENDS_NOT:
        vm.hurried = 1
        lua.sethook(L, hook, LUA_MASKCOUNT, 1)
        push_error_table(L, KILLED, strlen(KILLED))
        lua.error(L)


cdef void hook(lua_State *L, lua_Debug *ar) noexcept nogil:
    cdef Vm *vm = vm_of(L)
    if vm.stack == NULL:
        return
    vm.work = 0
    if vm.hurried and vm.ending == ENDS_NOT:
        vm.hurried = 0
        lua.sethook(L, hook, LUA_MASKCOUNT, HOOK_COUNT)
    check_stack(L, vm)
    check_ending(L, vm)


cdef inline void check_stack(lua_State *L, Vm *vm) noexcept nogil:
    if vm.stack != NULL and vm.stack - stack_place() > STACK_MOST:
        raise_text(L, "stack overflow")


cdef int panic(lua_State *L) noexcept nogil:
    """Everything runs in protected calls, so nothing gets here."""
    fputs("crdt-redis: an error of a script was not caught\n", stderr)
    abort()
    return 0


# ---- making and freeing --------------------------------------------------------------------------

cdef Vm *vm_new(size_t most, Host host) except NULL:
    """A VM whose scripts may hold `most` bytes together. RuntimeError where Lua cannot be had."""
    cdef Vm *vm
    open_lua()
    vm = <Vm*>malloc(sizeof(Vm))
    if vm == NULL:
        raise MemoryError
    memset(vm, 0, sizeof(Vm))
    vm.random = RANDOM_FIRST
    vm.most = most
    vm.host = host
    vm.due = INT64_MAX
    vm.resp = 2
    vm.chunk = "@user_script" if host.take_function == NULL else "@user_function"
    vm.L = lua.newstate(allocate, vm)
    if vm.L == NULL:
        free(vm)
        raise MemoryError
    lua.atpanic(vm.L, panic)
    if lua.cpcall(vm.L, build_sandbox, NULL) != 0:
        take_error(vm)
        text = vm.error[:vm.error_n].decode("utf-8", "replace")
        vm_free(vm)
        raise RuntimeError(f"scripts: {text}")
    lua.gc(vm.L, LUA_GCCOLLECT, 0)
    lua.sethook(vm.L, hook, LUA_MASKCOUNT, HOOK_COUNT)
    vm.idle = vm.used
    return vm


cdef void vm_free(Vm *vm) noexcept nogil:
    if vm != NULL:
        vm.stack = NULL
        lua.close(vm.L)
        free(vm.argv)
        free(vm)


cdef void take_error(Vm *vm) noexcept nogil:
    """The error on top of the stack becomes vm.error as it is; the stack is emptied."""
    cdef size_t n = 0
    cdef const char *p = NULL
    if lua.type(vm.L, -1) == LUA_TSTRING:
        p = lua.tolstring(vm.L, -1, &n)
    vm.error_n = min(n, sizeof(vm.error))
    if vm.error_n:
        memcpy(vm.error, p, vm.error_n)
    lua.settop(vm.L, 0)


# ---- compiling -----------------------------------------------------------------------------------

cdef struct Loading:
    const char *p
    size_t n
    const char *name
    int64_t due             # `steady_now` at which it has taken too long
    int late                # it has
    int begun               # Lua has got some of it
    int ref


cdef const char *next_piece(lua_State *L, void *ud, size_t *n) noexcept nogil:
    cdef Loading *job = <Loading*>ud
    cdef const char *p = job.p
    if job.due == INT64_MAX:                # for a script that runs
        check_ending(L, vm_of(L))
    elif steady_now() >= job.due:
        job.late = 1
        lua.pushstring(L, "it takes too long to compile")
        lua.error(L)
    if job.n and p[0] == c'#' and not job.begun:
        job.begun = n[0] = 1
        return " "                          # LuaJIT passes over a first line that begins with #
    job.begun = 1
    n[0] = min(job.n, <size_t>SOURCE_PIECE)
    job.p += n[0]
    job.n -= n[0]
    return p if n[0] else NULL


cdef int load_protected(lua_State *L) noexcept nogil:
    cdef Loading *job = <Loading*>lua.touserdata(L, 1)
    if lua.load(L, next_piece, job, job.name, "t") != 0:
        return lua.error(L)
    job.ref = lua.ref(L, LUA_REGISTRYINDEX)
    return 0


cdef int load_script(Vm *vm, const char *p, size_t n, const char *name) noexcept nogil:
    cdef Loading job
    job.p = p
    job.n = n
    job.name = name
    job.due = steady_now() + COMPILE_MS
    job.ref = -1
    job.begun = 0
    if lua.cpcall(vm.L, load_protected, &job) != 0:
        take_error(vm)
        return -1
    return job.ref


cdef void drop_script(Vm *vm, int ref) noexcept nogil:
    lua.unref(vm.L, LUA_REGISTRYINDEX, ref)


cdef void collect_dropped(Vm *vm) noexcept nogil:
    if vm.used > vm.most // 2:
        lua.gc(vm.L, LUA_GCCOLLECT, 0)
        vm.idle = vm.used


# ---- running -------------------------------------------------------------------------------------

cdef struct Run:
    Vm *vm
    int ref
    int direct              # a function, which gets keys and arguments as its own
    const char *sha         # or the function's name
    Span *keys
    int nkeys
    Span *args
    int nargs
    Reply *out
    size_t at               # where this script's reply begins in `out`
    int good


cdef void push_spans(lua_State *L, Span *v, int n) noexcept nogil:
    cdef int i
    lua.createtable(L, n, 0)
    for i in range(n):
        lua.pushlstring(L, v[i].p, v[i].n)
        lua.rawseti(L, -2, i + 1)


cdef int run_protected(lua_State *L) noexcept nogil:
    cdef Run *run = <Run*>lua.touserdata(L, 1)
    cdef Vm *vm = run.vm
    cdef int status
    lua.settop(L, 0)
    lua.rawgeti(L, LUA_REGISTRYINDEX, vm.ref_handler)
    lua.rawgeti(L, LUA_REGISTRYINDEX, run.ref)
    if run.direct:
        push_spans(L, run.keys, run.nkeys)
        push_spans(L, run.args, run.nargs)
        status = lua.pcall(L, 2, 1, 1)
    else:
        lua.rawgeti(L, LUA_REGISTRYINDEX, vm.ref_globals)
        push_spans(L, run.keys, run.nkeys)
        lua.setfield(L, -2, "KEYS")
        push_spans(L, run.args, run.nargs)
        lua.setfield(L, -2, "ARGV")
        pop(L, 1)
        lua.pushvalue(L, LUA_GLOBALSINDEX)
        lua.setfenv(L, -2)          # whatever the script did to its own environment last time
        status = lua.pcall(L, 0, 1, 1)
    if status == 0 and vm.ending == ENDS_NOT:   # it may have ended in a call that caught the error
        run.good = reply_of_value(vm, L, -1, run.out, 0)
    else:
        reply_of_error(vm, L, run.out, run.sha)
    return 0


cdef inline void begin_run(Vm *vm) noexcept nogil:
    vm.stack = stack_place()
    vm.ending = ENDS_NOT
    vm.work = 0
    vm.counted = 0
    vm.resp = 2
    if vm.hurried:
        vm.hurried = 0
        lua.sethook(vm.L, hook, LUA_MASKCOUNT, HOOK_COUNT)


cdef inline void end_run(Vm *vm) noexcept nogil:
    vm.stack = NULL
    vm.due = INT64_MAX
    if vm.used > vm.idle + GARBAGE:
        lua.gc(vm.L, LUA_GCCOLLECT, 0)
        vm.idle = vm.used


cdef int run_script(Vm *vm, int ref, const char *sha, Span *keys, int nkeys, Span *args, int nargs,
                    Reply *out) noexcept nogil:
    return run_reference(vm, ref, 0, sha, keys, nkeys, args, nargs, out)


cdef int run_reference(Vm *vm, int ref, int direct, const char *sha, Span *keys, int nkeys,
                       Span *args, int nargs, Reply *out) noexcept nogil:
    cdef Run run
    cdef char text[192]
    cdef const char *why = "not enough memory"
    run.vm = vm
    run.ref = ref
    run.direct = direct
    run.sha = sha
    run.keys = keys
    run.nkeys = nkeys
    run.args = args
    run.nargs = nargs
    run.out = out
    run.at = out.buf.n
    run.good = 0
    begin_run(vm)
    if lua.cpcall(vm.L, run_protected, &run) != 0:
        # Memory ran out around the script, or its reply could not be made.
        out.buf.n = run.at
        run.good = 0
        if vm.ending != ENDS_NOT:
            why = KILLED
        elif lua.type(vm.L, -1) == LUA_TSTRING:
            why = lua.tolstring(vm.L, -1, NULL)
        snprintf(text, sizeof(text), "ERR %.100s script: %.40s", why, sha)
        lua.settop(vm.L, 0)
        reply_error(out, text)
    end_run(vm)
    return run.good
