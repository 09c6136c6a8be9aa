# The table `redis`: commands, replies, the log.
#
# A command's arguments are read where Lua holds them, and its reply becomes a Lua value; the host
# runs it in between and raises nothing. redis.call raises an error reply as a table
# {err = text}; redis.pcall answers it.

cdef enum:
    NUMBER_TEXT = 40
    REPL_ALL = 3


cdef int raise_error(lua_State *L, const char *text) noexcept nogil:
    """An error of Redis's own: a table, without a place before its text."""
    push_error_table(L, text, strlen(text))
    return lua.error(L)


cdef int read_arguments(lua_State *L, Vm *vm) noexcept nogil:
    """All arguments of the function into vm.argv; -1 where one is neither string nor number.
    Numbers are replaced by their text on the Lua stack, so that they live as long as the others."""
    cdef int n = lua.gettop(L)
    cdef int i, type, k
    cdef char text[NUMBER_TEXT]
    cdef Span *grown
    if n > vm.argv_cap:
        grown = <Span*>realloc(vm.argv, sizeof(Span) * <size_t>n)
        if grown == NULL:
            raise_error(L, "not enough memory")
        vm.argv = grown
        vm.argv_cap = n
    for i in range(n):
        type = lua.type(L, i + 1)
        if type == LUA_TNUMBER:
            k = format_double(lua.tonumber(L, i + 1), text)
            lua.pushlstring(L, text, <size_t>k)
            lua.replace(L, i + 1)
        elif type != LUA_TSTRING:
            return -1
        vm.argv[i].p = lua.tolstring(L, i + 1, &vm.argv[i].n)
    return n


cdef int call_or_raise(lua_State *L, int raises) noexcept nogil:
    cdef Vm *vm = vm_of(L)
    cdef int n = lua.gettop(L)
    cdef Span reply
    cdef const char *refusal = NULL
    check_stack(L, vm)
    if n == 0:
        refusal = "Please specify at least one argument for this redis lib call"
    elif read_arguments(L, vm) < 0:
        refusal = "Lua redis lib command arguments must be strings or integers"
    if refusal != NULL:
        push_error_table(L, refusal, strlen(refusal))
        return lua.error(L) if raises else 1
    reply = span(NULL, 0)
    vm.host.call(vm.host.self, vm, vm.argv, n, &reply)
    lua.settop(L, 0)            # up to 8,000 arguments: the reply needs the room
    if vm.ending != ENDS_NOT:
        check_ending(L, vm)
    if push_reply(vm, L, reply) and raises:
        return lua.error(L)
    return 1


cdef int redis_call(lua_State *L) noexcept nogil:
    return call_or_raise(L, 1)


cdef int redis_pcall(lua_State *L) noexcept nogil:
    return call_or_raise(L, 0)


cdef int one_field(lua_State *L, const char *name) noexcept nogil:
    if lua.gettop(L) != 1 or lua.type(L, 1) != LUA_TSTRING:
        push_error_table(L, "wrong number or type of arguments", 33)
        return 1
    lua.createtable(L, 0, 1)
    lua.pushvalue(L, 1)
    lua.setfield(L, -2, name)
    return 1


cdef int redis_status_reply(lua_State *L) noexcept nogil:
    return one_field(L, "ok")


cdef int redis_error_reply(lua_State *L) noexcept nogil:
    cdef size_t n
    cdef const char *p
    if lua.gettop(L) != 1 or lua.type(L, 1) != LUA_TSTRING:
        return one_field(L, "err")
    p = lua.tolstring(L, 1, &n)
    if n == 0 or p[0] != c'-':
        lua.pushstring(L, "-")
        lua.pushvalue(L, 1)
        lua.concat(L, 2)
        p = lua.tolstring(L, -1, &n)
    push_error_table(L, p, n)
    return 1


cdef int redis_sha1hex(lua_State *L) noexcept nogil:
    cdef Vm *vm = vm_of(L)
    cdef uint32_t h[5]
    cdef size_t n
    cdef size_t at = 0
    cdef const char *p
    cdef char out[41]
    if lua.gettop(L) != 1:
        return raise_error(L, "wrong number of arguments")
    p = lua.tolstring(L, 1, &n)
    if p == NULL:
        n = 0
    sha1_begin(h)
    while n - at >= 64:
        sha1_block(h, <const uint8_t*>p + at)
        at += 64
        walk_on(L, vm)
    sha1_end(h, p + at, n - at, n, out)
    lua.pushlstring(L, out, 40)
    return 1


cdef int redis_log(lua_State *L) noexcept nogil:
    cdef Vm *vm = vm_of(L)
    cdef int n = lua.gettop(L)
    cdef int i
    cdef double level
    cdef size_t k
    cdef const char *p
    cdef Out o
    if n < 2:
        return raise_error(L, "redis.log() requires two arguments or more.")
    if not lua.isnumber(L, 1):
        return raise_error(L, "First argument must be a number (log level).")
    level = lua.tonumber(L, 1)
    if not 0 <= level <= 3:
        return raise_error(L, "Invalid debug level.")
    out_begin(&o, L)
    for i in range(2, n + 1):
        lua.pushvalue(L, i)
        p = lua.tolstring(L, -1, &k)
        if p != NULL:
            if i > 2:
                out_add(&o, " ", 1)
            out_add(&o, p, min(k, <size_t>1024))
        pop(L, 1)
    if vm.host.note != NULL:
        vm.host.note(vm.host.self, <int>level, o.p, min(o.n, <size_t>1024))
    return 0


cdef int redis_setresp(lua_State *L) noexcept nogil:
    cdef double v
    if lua.gettop(L) != 1:
        return raise_error(L, "redis.setresp() requires one argument.")
    v = lua.tonumber(L, 1)
    if v != 2 and v != 3:
        return raise_error(L, "RESP version must be 2 or 3.")
    vm_of(L).resp = <int>v
    return 0


cdef int redis_set_repl(lua_State *L) noexcept nogil:
    """Accepted, without an effect: a write that peers do not get would divide them."""
    cdef double v
    if lua.gettop(L) != 1:
        return raise_error(L, "redis.set_repl() requires two arguments.")
    v = lua.tonumber(L, 1)
    if v < 0 or v > REPL_ALL or v != <double><int>v:
        return raise_error(L,
                           "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or "
                           "REPL_NONE.")
    return 0


cdef int redis_replicate_commands(lua_State *L) noexcept nogil:
    lua.pushboolean(L, 1)
    return 1


cdef int redis_breakpoint(lua_State *L) noexcept nogil:
    lua.pushboolean(L, 0)
    return 1


cdef int redis_debug(lua_State *L) noexcept nogil:
    return 0


cdef int redis_acl_check_cmd(lua_State *L) noexcept nogil:
    cdef Vm *vm = vm_of(L)
    cdef int n = lua.gettop(L)
    cdef int may = 1
    if n == 0:
        return raise_error(L,
                           "Please specify at least one argument for this redis.acl_check_cmd() "
                           "call")
    if read_arguments(L, vm) < 0:
        return raise_error(L, "redis.acl_check_cmd() command arguments must be strings or integers")
    if vm.host.allowed != NULL:
        may = vm.host.allowed(vm.host.self, vm.argv, n)
    if may < 0:
        return raise_error(L, "Invalid command passed to redis.acl_check_cmd()")
    lua.pushboolean(L, may)
    return 1


cdef void set_number(lua_State *L, const char *name, double v) noexcept nogil:
    lua.pushnumber(L, v)
    lua.setfield(L, -2, name)


cdef void push_redis(lua_State *L) noexcept nogil:
    lua.createtable(L, 0, 32)
    set_function(L, "call", redis_call)
    set_function(L, "pcall", redis_pcall)
    set_function(L, "status_reply", redis_status_reply)
    set_function(L, "error_reply", redis_error_reply)
    set_function(L, "sha1hex", redis_sha1hex)
    set_function(L, "setresp", redis_setresp)
    set_function(L, "set_repl", redis_set_repl)
    set_function(L, "replicate_commands", redis_replicate_commands)
    set_function(L, "breakpoint", redis_breakpoint)
    set_function(L, "debug", redis_debug)
    set_function(L, "acl_check_cmd", redis_acl_check_cmd)
    set_number(L, "REPL_NONE", 0)
    set_number(L, "REPL_AOF", 1)
    set_number(L, "REPL_SLAVE", 2)
    set_number(L, "REPL_REPLICA", 2)
    set_number(L, "REPL_ALL", REPL_ALL)
    push_log(L)


cdef bytes VERSION_BYTES = REDIS_VERSION.encode()
cdef const char *VERSION = VERSION_BYTES
cdef int VERSION_NUMBER = int.from_bytes(bytes(map(int, REDIS_VERSION.split("."))), "big")


cdef void push_log(lua_State *L) noexcept nogil:
    """What a library has while it is loaded, too."""
    set_function(L, "log", redis_log)
    set_number(L, "LOG_DEBUG", 0)
    set_number(L, "LOG_VERBOSE", 1)
    set_number(L, "LOG_NOTICE", 2)
    set_number(L, "LOG_WARNING", 3)
    lua.pushstring(L, VERSION)
    lua.setfield(L, -2, "REDIS_VERSION")
    set_number(L, "REDIS_VERSION_NUM", VERSION_NUMBER)


# ---- SHA-1 (FIPS 180-4) --------------------------------------------------------------------------

cdef inline uint32_t rotated(uint32_t x, int n) noexcept nogil:
    return x << n | x >> (32 - n)


cdef void sha1_block(uint32_t *h, const uint8_t *p) noexcept nogil:
    cdef uint32_t w[80]
    cdef uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f, k, t
    cdef int i
    for i in range(16):
        w[i] = (<uint32_t>p[4 * i] << 24 | <uint32_t>p[4 * i + 1] << 16
                | <uint32_t>p[4 * i + 2] << 8 | p[4 * i + 3])
    for i in range(16, 80):
        w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    for i in range(80):
        if i < 20:
            f = b & c | ~b & d
            k = 0x5a827999
        elif i < 40:
            f = b ^ c ^ d
            k = 0x6ed9eba1
        elif i < 60:
            f = b & c | b & d | c & d
            k = 0x8f1bbcdc
        else:
            f = b ^ c ^ d
            k = 0xca62c1d6
        t = rotated(a, 5) + f + e + k + w[i]
        e = d
        d = c
        c = rotated(b, 30)
        b = a
        a = t
    h[0] += a
    h[1] += b
    h[2] += c
    h[3] += d
    h[4] += e


cdef void sha1_begin(uint32_t *h) noexcept nogil:
    h[0] = 0x67452301
    h[1] = 0xefcdab89
    h[2] = 0x98badcfe
    h[3] = 0x10325476
    h[4] = 0xc3d2e1f0


cdef void sha1_end(uint32_t *h, const char *p, size_t left, size_t n, char *out) noexcept nogil:
    """left: bytes at p behind the last whole block; n: of the whole text."""
    cdef uint8_t tail[128]
    cdef size_t size
    cdef int i
    memset(tail, 0, 128)
    if left:
        memcpy(tail, p, left)
    tail[left] = 0x80
    size = 64 if left < 56 else 128
    for i in range(8):
        tail[size - 1 - <size_t>i] = <uint8_t>((<uint64_t>n << 3) >> (8 * i))
    sha1_block(h, tail)
    if size == 128:
        sha1_block(h, tail + 64)
    for i in range(40):
        out[i] = b"0123456789abcdef"[h[i // 8] >> (28 - 4 * (i % 8)) & 15]
    out[40] = 0


cdef void sha1_hex(const char *p, size_t n, char *out) noexcept nogil:
    cdef uint32_t h[5]
    cdef size_t at = 0
    sha1_begin(h)
    while n - at >= 64:
        sha1_block(h, <const uint8_t*>p + at)
        at += 64
    sha1_end(h, p + at, n - at, n, out)
