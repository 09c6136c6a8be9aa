# How replies become Lua values and Lua values replies, by Redis's tables of conversion.
#
#   RESP            Lua                         Lua                      reply
#   :1              1                           1.9                      :1
#   $1 x            "x"                         "x"                      $1 x
#   +OK             {ok = "OK"}                 {ok = "OK"}              +OK
#   -ERR x          {err = "ERR x"}             {err = "ERR x"}          -ERR x
#   *               {1, 2}                      {1, 2, nil, 4}           * of 2: up to the first nil
#   $-1 *-1         false                       false, nil               null
#   and in RESP3 (redis.setresp(3)):
#   _               nil                         true                     :1, or #t after setresp(3)
#   %               {map = {...}}               {map = {...}}            %
#   ~               {set = {x = true}}          {set = {x = true}}       ~
#   ,               {double = 1.5}              {double = 1.5}           ,
#   (               {big_number = "1"}          {big_number = "1"}       (
#   =               {verbatim_string = {string, format}}, both ways
#   #t              true
#
# All look-ups are raw: a metatable of the script's runs nothing here.

cdef struct Reading:
    const char *p
    const char *end
    Vm *vm


cdef inline Span read_line(Reading *r) noexcept nogil:
    """Up to CR LF, which it passes."""
    cdef const char *from_ = r.p
    cdef const char *cr = <const char*>memchr(r.p, c'\r', <size_t>(r.end - r.p))
    if cr == NULL or r.end - cr < 2:
        r.p = r.end
        return span(from_, <size_t>(r.end - from_))
    r.p = cr + 2
    return span(from_, <size_t>(cr - from_))


cdef void set_text_field(lua_State *L, const char *name, const char *p, size_t n) noexcept nogil:
    lua.pushlstring(L, p, n)
    lua.setfield(L, -2, name)


cdef void push_error_table(lua_State *L, const char *p, size_t n) noexcept nogil:
    cdef const char *space
    lua.createtable(L, 0, 3)
    if n and p[0] == c'-':
        p += 1
        n -= 1
        space = <const char*>memchr(p, c' ', n)
    else:
        space = NULL
    if space != NULL:
        lua.pushlstring(L, p, n)
    elif n == 0:
        lua.pushstring(L, "ERR")
    else:
        lua.pushstring(L, "ERR ")
        lua.pushlstring(L, p, n)
        lua.concat(L, 2)
    lua.setfield(L, -2, "err")


cdef void push_next(Reading *r, lua_State *L, int depth) noexcept nogil:
    cdef char kind = r.p[0] if r.p < r.end else c'_'
    cdef Span line
    cdef int64_t n = 0
    cdef int64_t i
    cdef double v
    cdef char text[64]
    if depth > REPLY_DEPTH or not lua.checkstack(L, 8):
        raise_text(L, "reached lua stack limit")
    r.p += r.p < r.end
    line = read_line(r)
    if kind == c'+':
        lua.createtable(L, 0, 1)
        set_text_field(L, "ok", line.p, line.n)
    elif kind == c'-':
        lua.createtable(L, 0, 2)
        set_text_field(L, "err", line.p, line.n)
        lua.pushboolean(L, 1)
        lua.setfield(L, -2, "ignore_error_stats_update")
    elif kind == c'_':
        lua.pushnil(L)
    elif kind == c'#':
        lua.pushboolean(L, line.n == 1 and line.p[0] == c't')
    elif kind == c'(':
        lua.createtable(L, 0, 1)
        set_text_field(L, "big_number", line.p, line.n)
    elif kind == c',':
        memcpy(text, line.p, min(line.n, 63))
        text[min(line.n, 63)] = 0
        v = strtod(text, NULL)
        lua.createtable(L, 0, 1)
        lua.pushnumber(L, v)
        lua.setfield(L, -2, "double")
    else:
        if not parse_int64(line.p, line.n, &n):
            n = -1
        if kind == c':':
            lua.pushnumber(L, <double>n)
        elif n < 0:
            lua.pushboolean(L, 0)               # RESP2's nulls
        elif kind == c'$' or kind == c'=':
            n = min(n, r.end - r.p)
            if kind == c'$':
                lua.pushlstring(L, r.p, <size_t>n)
            else:
                lua.createtable(L, 0, 1)
                lua.createtable(L, 0, 2)
                set_text_field(L, "format", r.p, <size_t>min(n, 3))
                set_text_field(L, "string", r.p + min(n, 4), <size_t>(n - min(n, 4)))
                lua.setfield(L, -2, "verbatim_string")
            r.p = min(r.p + n + 2, r.end)
        elif kind == c'*' or kind == c'>':
            lua.createtable(L, <int>min(n, r.end - r.p), 0)
            for i in range(n):
                push_next(r, L, depth + 1)
                lua.rawseti(L, -2, <int>(i + 1))
        elif kind == c'%' or kind == c'~':
            lua.createtable(L, 0, 1)
            lua.createtable(L, 0, <int>min(n, r.end - r.p))
            for i in range(n):
                push_next(r, L, depth + 1)
                if kind == c'%':
                    push_next(r, L, depth + 1)
                else:
                    lua.pushboolean(L, 1)
                if lua.type(L, -2) == LUA_TNIL:
                    pop(L, 2)
                else:
                    lua.rawset(L, -3)
            if kind == c'%':
                lua.setfield(L, -2, "map")
            else:
                lua.setfield(L, -2, "set")
        elif kind == c'|':
            for i in range(2 * n):              # attributes are passed over
                push_next(r, L, depth + 1)
                pop(L, 1)
            push_next(r, L, depth + 1)
        else:
            lua.pushnil(L)


cdef int push_reply(Vm *vm, lua_State *L, Span reply) noexcept nogil:
    cdef Reading r
    r.p = reply.p
    r.end = reply.p + reply.n
    r.vm = vm
    push_next(&r, L, 0)
    return reply.n > 0 and reply.p[0] == c'-'


# ---- Lua to RESP ---------------------------------------------------------------------------------

cdef inline int raw_field(lua_State *L, int idx, const char *name, int type) noexcept nogil:
    """Pushes the field of the table at idx (from the bottom) if it has this type, else nothing."""
    lua.pushstring(L, name)
    lua.rawget(L, idx)
    if lua.type(L, -1) == type:
        return 1
    pop(L, 1)
    return 0


cdef int64_t whole(double v) noexcept nogil:
    """As the x86 conversion does it: what does not fit is the smallest."""
    return <int64_t>v if -9223372036854775808.0 <= v < 9223372036854775808.0 else INT64_MIN


cdef void put_simple(Reply *out, const char *p, size_t n) noexcept nogil:
    """A simple string of any bytes: line ends become spaces."""
    cdef size_t at = out.buf.n
    cdef size_t i
    reply_raw(out, "+", 1)
    reply_raw(out, p, n)
    for i in range(at, out.buf.n):
        if out.buf.p[i] == c'\r' or out.buf.p[i] == c'\n':
            out.buf.p[i] = c' '
    reply_raw(out, "\r\n", 2)


cdef int reply_of_value(Vm *vm, lua_State *L, int idx, Reply *out, int depth) noexcept nogil:
    cdef int type = lua.type(L, idx)
    cdef size_t n
    cdef const char *p
    walk_on(L, vm)
    if idx < 0:
        idx = lua.gettop(L) + 1 + idx
    if out.over or out.buf.n > vm.most:
        raise_text(L, "the reply is too large")     # one value can stand in many places
    if type == LUA_TSTRING:
        p = lua.tolstring(L, idx, &n)
        reply_bulk(out, p, n)
    elif type == LUA_TNUMBER:
        reply_int(out, whole(lua.tonumber(L, idx)))
    elif type == LUA_TBOOLEAN:
        if vm.resp >= 3:
            reply_bool(out, lua.toboolean(L, idx))
        elif lua.toboolean(L, idx):
            reply_int(out, 1)
        else:
            reply_null(out)
    elif type == LUA_TTABLE:
        return reply_of_table(vm, L, idx, out, depth)
    else:
        reply_null(out)
    return 1


cdef int reply_of_table(Vm *vm, lua_State *L, int idx, Reply *out, int depth) noexcept nogil:
    cdef size_t n, m
    cdef const char *p
    cdef const char *kind
    cdef char three[4]
    cdef int64_t count = 0
    cdef int64_t i
    if depth > REPLY_DEPTH or not lua.checkstack(L, 8):
        reply_error(out, "ERR reached lua stack limit")
        return 0
    if raw_field(L, idx, "err", LUA_TSTRING):
        p = lua.tolstring(L, -1, &n)
        reply_error_span(out, p, n)
        pop(L, 1)
        vm.counted = raw_field(L, idx, "ignore_error_stats_update", LUA_TBOOLEAN)
        return 0
    if raw_field(L, idx, "ok", LUA_TSTRING):
        p = lua.tolstring(L, -1, &n)
        put_simple(out, p, n)
        pop(L, 1)
    elif raw_field(L, idx, "double", LUA_TNUMBER):
        reply_double(out, lua.tonumber(L, -1))
        pop(L, 1)
    elif raw_field(L, idx, "map", LUA_TTABLE):
        idx = lua.gettop(L)
        lua.pushnil(L)
        while lua.next(L, idx):
            pop(L, 1)
            count += 1
        reply_map(out, count)
        lua.pushnil(L)
        while lua.next(L, idx):
            reply_of_value(vm, L, -2, out, depth + 1)
            reply_of_value(vm, L, -1, out, depth + 1)
            pop(L, 1)
        pop(L, 1)
    elif raw_field(L, idx, "set", LUA_TTABLE):
        idx = lua.gettop(L)
        lua.pushnil(L)
        while lua.next(L, idx):
            pop(L, 1)
            count += 1
        reply_set(out, count)
        lua.pushnil(L)
        while lua.next(L, idx):
            pop(L, 1)
            reply_of_value(vm, L, -1, out, depth + 1)
        pop(L, 1)
    elif raw_field(L, idx, "big_number", LUA_TSTRING):
        p = lua.tolstring(L, -1, &n)
        put_big_number(out, p, n)
        pop(L, 1)
    elif raw_field(L, idx, "verbatim_string", LUA_TTABLE):
        idx = lua.gettop(L)
        if raw_field(L, idx, "format", LUA_TSTRING):
            if raw_field(L, idx, "string", LUA_TSTRING):
                kind = lua.tolstring(L, -2, &m)
                memset(three, c' ', 3)
                three[3] = 0
                memcpy(three, kind, min(m, 3))
                p = lua.tolstring(L, -1, &n)
                reply_verbatim(out, three, p, n)
                pop(L, 3)
                return 1
            pop(L, 1)
        pop(L, 1)
        reply_array(out, 0)
    else:
        while True:
            lua.rawgeti(L, idx, <int>(count + 1))
            if lua.type(L, -1) == LUA_TNIL:
                break
            pop(L, 1)
            count += 1
        pop(L, 1)
        reply_array(out, count)
        for i in range(count):
            lua.rawgeti(L, idx, <int>(i + 1))
            reply_of_value(vm, L, -1, out, depth + 1)
            pop(L, 1)
    return 1


cdef void put_big_number(Reply *out, const char *p, size_t n) noexcept nogil:
    cdef size_t at = out.buf.n
    cdef size_t head
    cdef size_t i
    reply_bignum(out, p, n)
    if out.buf.n < at + n + 2:
        return                                  # beyond the reply's limit
    head = out.buf.n - n - 2
    for i in range(head, out.buf.n - 2):
        if out.buf.p[i] == c'\r' or out.buf.p[i] == c'\n':
            out.buf.p[i] = c' '


cdef void reply_of_error(Vm *vm, lua_State *L, Reply *out, const char *sha) noexcept nogil:
    """The handler has made a table of the error, but where memory or the handler itself failed."""
    cdef int top = lua.gettop(L)
    cdef char *w = vm.error
    cdef size_t room = sizeof(vm.error)
    cdef const char *p = "unknown error"
    cdef const char *source = NULL
    cdef size_t n = 13
    cdef int table = lua.type(L, top) == LUA_TTABLE
    cdef int k = 0
    cdef double line = 0
    if table:
        lua.pushstring(L, "err")
        lua.rawget(L, top)
    else:
        lua.pushvalue(L, top)
    if lua.type(L, -1) == LUA_TSTRING or lua.type(L, -1) == LUA_TNUMBER:
        p = lua.tolstring(L, -1, &n)
    else:
        table = 0
    vm.counted = table and raw_field(L, top, "ignore_error_stats_update", LUA_TBOOLEAN)
    if table and raw_field(L, top, "source", LUA_TSTRING):
        source = lua.tolstring(L, -1, NULL)
        if raw_field(L, top, "line", LUA_TNUMBER):
            line = lua.tonumber(L, -1)
    if vm.ending != ENDS_NOT:                   # even where there was no memory to say so
        p = KILLED
        n = strlen(KILLED)
        table = 0
    if not table:
        memcpy(w, <const char*>"ERR ", 4)
        k = 4
    n = min(n, <size_t>512)
    memcpy(w + k, p, n)
    k += <int>n
    if source != NULL and line > 0:
        k += snprintf(w + k, room - <size_t>k, " script: %.128s, on %.128s:%d.", sha, source,
                      <int>line)
    elif source != NULL:
        k += snprintf(w + k, room - <size_t>k, " script: %.128s, on %.128s.", sha, source)
    else:
        k += snprintf(w + k, room - <size_t>k, " script: %.128s", sha)
    vm.error_n = <size_t>k
    reply_error_span(out, w, vm.error_n)


cdef int find_place(lua_State *L, lua_Debug *ar) noexcept nogil:
    """The innermost function of a script: what was running. None: the script's own frame has gone,
    since it ended in a call of ours (a tail call keeps none)."""
    cdef int level
    for level in range(1, 16):
        if not lua.getstack(L, level, ar):
            return 0
        lua.getinfo(L, "Sl", ar)
        if ar.what[0] != c'C' and ar.currentline > 0 and ar.source[0] != c'=':
            return 1
    return 0


cdef int handle_error(lua_State *L) noexcept nogil:
    """The message handler of a run: any error becomes a table with text, source and line."""
    cdef lua_Debug ar
    cdef int found = find_place(L, &ar)
    if lua.type(L, 1) != LUA_TTABLE:
        lua.createtable(L, 0, 3)
        lua.pushstring(L, "ERR ")
        push_shown(L, 1)
        lua.concat(L, 2)
        lua.setfield(L, -2, "err")
        lua.replace(L, 1)
    else:
        lua.pushstring(L, "err")
        lua.rawget(L, 1)
        if lua.type(L, -1) != LUA_TSTRING and lua.type(L, -1) != LUA_TNUMBER:
            lua.createtable(L, 0, 3)
            lua.pushstring(L, "ERR unknown error")
            lua.setfield(L, -2, "err")
            lua.replace(L, 1)
        lua.settop(L, 1)
        # a table of the script's own may be protected by it, or be one of ours
        if is_library(vm_of(L), lua.topointer(L, 1)):
            return 1
    lua.pushstring(L, "source")
    if found:
        lua.pushstring(L, ar.source)
    else:
        lua.pushstring(L, vm_of(L).chunk)
    lua.rawset(L, 1)
    if found or vm_of(L).single_line:
        lua.pushstring(L, "line")
        lua.pushnumber(L, ar.currentline if found else 1)
        lua.rawset(L, 1)
    lua.settop(L, 1)
    return 1


cdef void push_shown(lua_State *L, int idx) noexcept nogil:
    """As tostring() shows it, without metatables."""
    cdef int type = lua.type(L, idx)
    if type == LUA_TSTRING or type == LUA_TNUMBER:
        lua.pushvalue(L, idx)
        lua.tolstring(L, -1, NULL)
    elif type == LUA_TNIL:
        lua.pushstring(L, "nil")
    elif type == LUA_TBOOLEAN:
        if lua.toboolean(L, idx):
            lua.pushstring(L, "true")
        else:
            lua.pushstring(L, "false")
    else:
        lua.pushstring(L, lua.typename(L, type))
