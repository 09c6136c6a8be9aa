# Libraries of functions. A library is a program that runs once, when it is loaded, and registers
# functions, which keep what they share with it. They are called with two tables, keys and
# arguments, in place of the globals KEYS and ARGV.

cdef const char *LOAD_TIMEOUT = "ERR FUNCTION LOAD timeout"


cdef uint32_t function_flag(const char *p, size_t n) noexcept nogil:
    if n == 9 and memcmp(p, b"no-writes", 9) == 0:
        return FUNCTION_NO_WRITES
    if n == 9 and memcmp(p, b"allow-oom", 9) == 0:
        return FUNCTION_ALLOW_OOM
    if n == 11 and memcmp(p, b"allow-stale", 11) == 0:
        return FUNCTION_ALLOW_STALE
    if n == 10 and memcmp(p, b"no-cluster", 10) == 0:
        return FUNCTION_NO_CLUSTER
    if n == 21 and memcmp(p, b"allow-cross-slot-keys", 21) == 0:
        return FUNCTION_CROSS_SLOT
    return 0


cdef const char *read_flag_table(lua_State *L, int idx, uint32_t *flags) noexcept nogil:
    """What is wrong with it, or NULL."""
    cdef int i, n
    cdef uint32_t flag
    cdef size_t size
    cdef const char *p
    n = <int>min(lua.objlen(L, idx), <size_t>64)
    for i in range(1, n + 1):
        lua.rawgeti(L, idx, i)
        flag = 0
        if lua.type(L, -1) == LUA_TSTRING:
            p = lua.tolstring(L, -1, &size)
            flag = function_flag(p, size)
        pop(L, 1)
        if not flag:
            return "unknown flag given"
        flags[0] |= flag
    return NULL


cdef const char *read_named(lua_State *L, Registration *r) noexcept nogil:
    """The fields of the one table that was given; the callback comes to stand on top of the stack.
    What is wrong, or NULL."""
    cdef size_t n
    cdef const char *key
    cdef const char *wrong
    cdef int callback = 0
    lua.settop(L, 1)
    lua.pushnil(L)                              # 2: the callback's place
    lua.pushnil(L)
    while lua.next(L, 1):                       # 3: key, 4: value
        if lua.type(L, 3) != LUA_TSTRING:
            return "named argument key given to redis.register_function is not a string"
        key = lua.tolstring(L, 3, &n)
        if n == 13 and memcmp(key, b"function_name", 13) == 0:
            if lua.type(L, 4) != LUA_TSTRING:
                return "function_name argument given to redis.register_function must be a string"
            r.name.p = lua.tolstring(L, 4, &r.name.n)       # the table holds it
        elif n == 11 and memcmp(key, b"description", 11) == 0:
            if lua.type(L, 4) != LUA_TSTRING:
                return "description argument given to redis.register_function must be a string"
            r.description.p = lua.tolstring(L, 4, &r.description.n)
        elif n == 8 and memcmp(key, b"callback", 8) == 0:
            if lua.type(L, 4) != LUA_TFUNCTION:
                return "callback argument given to redis.register_function must be a function"
            lua.pushvalue(L, 4)
            lua.replace(L, 2)
            callback = 1
        elif n == 5 and memcmp(key, b"flags", 5) == 0:
            if lua.type(L, 4) != LUA_TTABLE:
                return ("flags argument to redis.register_function must be a table representing "
                        "function flags")
            wrong = read_flag_table(L, 4, &r.flags)
            if wrong != NULL:
                return wrong
        else:
            return "unknown argument given to redis.register_function"
        pop(L, 1)
    if r.name.p == NULL:
        return "redis.register_function must get a function name argument"
    if not callback:
        return "redis.register_function must get a callback argument"
    lua.settop(L, 2)
    return NULL


cdef int redis_register_function(lua_State *L) noexcept nogil:
    cdef Vm *vm = vm_of(L)
    cdef Registration r
    cdef const char *wrong = NULL
    cdef int n = lua.gettop(L)
    memset(&r, 0, sizeof(r))
    if not vm.registering:
        wrong = "redis.register_function can only be called on FUNCTION LOAD command"
    elif n < 1 or n > 2:
        wrong = "wrong number of arguments to redis.register_function"
    elif n == 1 and lua.type(L, 1) != LUA_TTABLE:
        wrong = ("calling redis.register_function with a single argument is only applicable to "
                 "Lua table (representing named arguments).")
    elif n == 1:
        wrong = read_named(L, &r)
    elif lua.type(L, 1) != LUA_TSTRING:
        wrong = "first argument to redis.register_function must be a string"
    elif lua.type(L, 2) != LUA_TFUNCTION:
        wrong = "second argument to redis.register_function must be a function"
    else:
        r.name.p = lua.tolstring(L, 1, &r.name.n)
    if wrong == NULL:
        r.ref = lua.ref(L, LUA_REGISTRYINDEX)
        wrong = vm.host.take_function(vm.host.self, &r)
    if wrong != NULL:
        return raise_error(L, wrong)
    return 0


cdef void push_registering(lua_State *L) noexcept nogil:
    set_function(L, "register_function", redis_register_function)


cdef void begin_load_mode(lua_State *L) noexcept nogil:
    lua.rawgeti(L, LUA_REGISTRYINDEX, vm_of(L).ref_load_mode)
    lua.pushboolean(L, 1)
    lua.call(L, 1, 0)


cdef int end_load_mode(lua_State *L) noexcept nogil:
    """Takes no memory: there may be none left. 0: done."""
    lua.rawgeti(L, LUA_REGISTRYINDEX, vm_of(L).ref_load_mode)
    lua.pushboolean(L, 0)
    return lua.pcall(L, 1, 0, 0)


cdef int load_library_protected(lua_State *L) noexcept nogil:
    cdef Loading *job = <Loading*>lua.touserdata(L, 1)
    cdef Vm *vm = vm_of(L)
    if lua.load(L, next_piece, job, job.name, "t") != 0:
        job.ref = 0                             # it does not compile
        return lua.error(L)
    begin_load_mode(L)
    lua.pushvalue(L, LUA_GLOBALSINDEX)
    lua.setfenv(L, -2)
    lua.rawgeti(L, LUA_REGISTRYINDEX, vm.ref_handler)
    lua.insert(L, -2)
    if lua.pcall(L, 0, 0, -2) != 0:
        if lua.type(L, -1) == LUA_TTABLE:       # else memory, or the handler, has failed
            lua.getfield(L, -1, "err")
        return lua.error(L)
    return 0


cdef int load_library(Vm *vm, const char *p, size_t n) noexcept nogil:
    cdef Loading job
    cdef char text[512]
    job.p = p
    job.n = n
    job.name = vm.chunk
    job.due = vm.due
    job.late = 0
    job.ref = -1
    vm.registering = 1
    begin_run(vm)
    if lua.cpcall(vm.L, load_library_protected, &job) != 0:
        take_error(vm)
        vm.error[min(vm.error_n, <size_t>400)] = 0
        if vm.ending != ENDS_NOT or job.late:
            snprintf(text, sizeof(text), "%s", LOAD_TIMEOUT)
        elif job.ref == 0:
            snprintf(text, sizeof(text), "ERR Error compiling function: %.400s", vm.error)
        else:
            snprintf(text, sizeof(text), "ERR Error registering functions: %.400s",
                     vm.error + (4 if vm.error_n > 4 and memcmp(vm.error, b"ERR ", 4) == 0 else 0))
        vm.error_n = min(strlen(text), sizeof(vm.error) - 1)
        memcpy(vm.error, text, vm.error_n + 1)
        job.ref = -2
    vm.stack = NULL
    if vm.hurried:                              # a load that was ended: the next program runs on
        vm.hurried = 0
        lua.sethook(vm.L, hook, LUA_MASKCOUNT, HOOK_COUNT)
    if end_load_mode(vm.L) != 0:
        take_error(vm)
        vm.error_n = <size_t>snprintf(vm.error, sizeof(vm.error), "ERR not enough memory")
        job.ref = -2
    end_run(vm)
    vm.registering = 0
    return job.ref == -1


cdef int run_function(Vm *vm, int ref, const char *name, Span *keys, int nkeys, Span *args,
                      int nargs, Reply *out) noexcept nogil:
    return run_reference(vm, ref, 1, name, keys, nkeys, args, nargs, out)
