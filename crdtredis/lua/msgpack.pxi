# cmsgpack: MessagePack (its specification of 2013, without bin and ext, as Redis has it).
#
#   00-7f  a small number       cc cd ce cf  uint 8 to 64      ca cb  float, double
#   e0-ff  a small negative     d0 d1 d2 d3  int 8 to 64       c0 c2 c3  nil, false, true
#   a0-bf d9 da db  string      90-9f dc dd  array             80-8f de df  map
#
# A table is an array if its keys are 1 to n. What lies deeper than 16 tables is nil. A number with
# a fraction is a float where that loses nothing. What cannot be told (a function) is nil.

cdef enum:
    PACK_DEPTH = 16
    UNPACK_DEPTH = 1000


cdef void put_number(Out *o, uint8_t head, uint64_t v, int bytes) noexcept nogil:
    """The head, and v in so many bytes, the greatest first."""
    cdef char *w = out_need(o, 9)
    cdef int i
    w[0] = <char>head
    for i in range(bytes):
        w[1 + i] = <char>(v >> (8 * (bytes - 1 - i)))
    o.n += <size_t>bytes + 1


cdef void put_length(Out *o, uint64_t n, uint8_t small, int most, uint8_t wide) noexcept nogil:
    """A head with a length: in `small` up to `most`, else two bytes behind `wide`, or four."""
    if n <= <uint64_t>most:
        put_number(o, small | <uint8_t>n, 0, 0)
    elif n <= 0xffff:
        put_number(o, wide, n, 2)
    else:
        put_number(o, wide + 1, n, 4)


cdef void pack_number(Out *o, double v) noexcept nogil:
    cdef int64_t i
    cdef uint32_t f4
    cdef uint64_t f8
    cdef float f
    if -9223372036854775808.0 <= v < 9223372036854775808.0 and v == <double><int64_t>v:
        i = <int64_t>v
        if i >= 0:
            if i <= 127:
                put_number(o, <uint8_t>i, 0, 0)
            elif i <= 0xff:
                put_number(o, 0xcc, <uint64_t>i, 1)
            elif i <= 0xffff:
                put_number(o, 0xcd, <uint64_t>i, 2)
            elif i <= 0xffffffffLL:
                put_number(o, 0xce, <uint64_t>i, 4)
            else:
                put_number(o, 0xcf, <uint64_t>i, 8)
        elif i >= -32:
            put_number(o, <uint8_t>i, 0, 0)
        elif i >= -128:
            put_number(o, 0xd0, <uint64_t>i, 1)
        elif i >= -32768:
            put_number(o, 0xd1, <uint64_t>i, 2)
        elif i >= -2147483648LL:
            put_number(o, 0xd2, <uint64_t>i, 4)
        else:
            put_number(o, 0xd3, <uint64_t>i, 8)
        return
    f = <float>v
    if <double>f == v:
        memcpy(&f4, &f, 4)
        put_number(o, 0xca, f4, 4)
    else:
        memcpy(&f8, &v, 8)
        put_number(o, 0xcb, f8, 8)


cdef void pack_value(lua_State *L, Out *o, int depth) noexcept nogil:
    """Of the value on top of the stack, which stays."""
    cdef int type = lua.type(L, -1)
    cdef int idx = lua.gettop(L)
    cdef size_t n
    cdef const char *p
    cdef uint64_t count = 0
    cdef uint64_t i
    cdef double v
    cdef double greatest = 0
    cdef int array = 1
    walk_on(L, vm_of(L))
    if type == LUA_TTABLE and depth == PACK_DEPTH:
        type = LUA_TNIL
    if type == LUA_TSTRING:
        p = lua.tolstring(L, -1, &n)
        if n <= 31:
            put_number(o, 0xa0 | <uint8_t>n, 0, 0)
        elif n <= 0xff:
            put_number(o, 0xd9, n, 1)
        elif n <= 0xffff:
            put_number(o, 0xda, n, 2)
        else:
            put_number(o, 0xdb, n, 4)
        out_add(o, p, n)
    elif type == LUA_TBOOLEAN:
        put_number(o, 0xc3 if lua.toboolean(L, -1) else 0xc2, 0, 0)
    elif type == LUA_TNUMBER:
        pack_number(o, lua.tonumber(L, -1))
    elif type == LUA_TTABLE:
        if not lua.checkstack(L, 8):
            raise_text(L, "stack overflow")
        lua.pushnil(L)
        while lua.next(L, idx):
            pop(L, 1)
            count += 1
            v = lua.tonumber(L, -1) if lua.type(L, -1) == LUA_TNUMBER else 0
            if v >= 1 and v <= 1 << 30 and v == <double><int64_t>v:
                greatest = max(greatest, v)
            else:
                array = 0
        if array and greatest == <double>count:
            put_length(o, count, 0x90, 15, 0xdc)
            for i in range(count):
                lua.rawgeti(L, idx, <int>(i + 1))
                pack_value(L, o, depth + 1)
                pop(L, 1)
        else:
            put_length(o, count, 0x80, 15, 0xde)
            lua.pushnil(L)
            while lua.next(L, idx):
                lua.pushvalue(L, -2)
                pack_value(L, o, depth + 1)
                pop(L, 1)
                pack_value(L, o, depth + 1)
                pop(L, 1)
    else:
        put_number(o, 0xc0, 0, 0)


cdef int msgpack_pack(lua_State *L) noexcept nogil:
    cdef int n = lua.gettop(L)
    cdef int i
    cdef Out o
    if n == 0:
        lua.argerror(L, 0, "MessagePack pack needs input.")
    if not lua.checkstack(L, 8):
        raise_text(L, "stack overflow")
    hurry(L, vm_of(L))
    out_begin(&o, L)
    for i in range(n):
        lua.pushvalue(L, i + 1)
        pack_value(L, &o, 0)
        pop(L, 1)
    out_push(&o)
    return 1


# ---- unpacking -----------------------------------------------------------------------------------

cdef struct Unpacker:
    lua_State *L
    const uint8_t *p
    const uint8_t *end


cdef void fail_missing(Unpacker *u, size_t n) noexcept nogil:
    if <size_t>(u.end - u.p) < n:
        raise_text(u.L, "Missing bytes in input.")


cdef uint64_t take_number(Unpacker *u, int bytes) noexcept nogil:
    cdef uint64_t v = 0
    cdef int i
    fail_missing(u, <size_t>bytes)
    for i in range(bytes):
        v = v << 8 | u.p[i]
    u.p += bytes
    return v


cdef void unpack_items(Unpacker *u, uint64_t n, int map, int depth) noexcept nogil:
    cdef uint64_t i
    if depth >= UNPACK_DEPTH or not lua.checkstack(u.L, 8):
        raise_text(u.L, "stack overflow")
    lua.createtable(u.L, 0, 0)
    for i in range(n):
        unpack_value(u, depth + 1)
        if map:
            unpack_value(u, depth + 1)
            if lua.type(u.L, -2) == LUA_TNIL:
                lua.pushstring(u.L, "table index is nil")
                lua.error(u.L)
            lua.rawset(u.L, -3)
        else:
            lua.rawseti(u.L, -2, <int>(i + 1))


cdef void unpack_value(Unpacker *u, int depth) noexcept nogil:
    cdef lua_State *L = u.L
    cdef uint8_t c
    cdef uint64_t v
    cdef uint32_t f4
    cdef float f
    cdef double d
    walk_on(L, vm_of(L))
    fail_missing(u, 1)
    c = u.p[0]
    u.p += 1
    if c < 0x80:
        lua.pushnumber(L, c)
    elif c >= 0xe0:
        lua.pushnumber(L, <int>c - 256)
    elif 0xa0 <= c <= 0xbf or 0xd9 <= c <= 0xdb:
        v = take_number(u, 1 << (c - 0xd9)) if c >= 0xd9 else c & 31
        fail_missing(u, v)
        lua.pushlstring(L, <const char*>u.p, v)
        u.p += v
    elif 0x90 <= c <= 0x9f or c == 0xdc or c == 0xdd:
        v = take_number(u, 2 << (c - 0xdc)) if c >= 0xdc else c & 15
        unpack_items(u, v, 0, depth)
    elif c <= 0x8f or c == 0xde or c == 0xdf:
        v = take_number(u, 2 << (c - 0xde)) if c >= 0xde else c & 15
        unpack_items(u, v, 1, depth)
    elif c == 0xc0:
        lua.pushnil(L)
    elif c == 0xc2 or c == 0xc3:
        lua.pushboolean(L, c & 1)
    elif c == 0xca:
        f4 = <uint32_t>take_number(u, 4)
        memcpy(&f, &f4, 4)
        lua.pushnumber(L, f)
    elif c == 0xcb:
        v = take_number(u, 8)
        memcpy(&d, &v, 8)
        lua.pushnumber(L, d)
    elif c == 0xcc:
        lua.pushnumber(L, <double>take_number(u, 1))
    elif c == 0xcd:
        lua.pushnumber(L, <double>take_number(u, 2))
    elif c == 0xce:
        lua.pushnumber(L, <double>take_number(u, 4))
    elif c == 0xcf or c == 0xd3:
        lua.pushnumber(L, <double><int64_t>take_number(u, 8))
    elif c == 0xd0:
        lua.pushnumber(L, <double><signed char>take_number(u, 1))
    elif c == 0xd1:
        lua.pushnumber(L, <double><short>take_number(u, 2))
    elif c == 0xd2:
        lua.pushnumber(L, <double><int32_t>take_number(u, 4))
    else:
        raise_text(L, "Bad data format in input.")


cdef int unpack_some(lua_State *L, int64_t limit, int64_t offset) noexcept nogil:
    """Up to `limit` values, 0: all, from `offset` on. With a limit the first result is where the
    next value begins, -1 at the end."""
    cdef Unpacker u
    cdef size_t n
    cdef const char *text = lua.checklstring(L, 1, &n)
    cdef int results = 0
    cdef char error[128]
    if offset < 0 or limit < 0:
        snprintf(error, sizeof(error),
                 "Invalid request to unpack with offset of %d and limit of %d.", <int>offset,
                 <int>n)
        raise_text(L, error)
    if offset > <int64_t>n:
        snprintf(error, sizeof(error), "Start offset %d greater than input length %d.",
                 <int>offset, <int>n)
        raise_text(L, error)
    hurry(L, vm_of(L))
    u.L = L
    u.p = <const uint8_t*>text + offset
    u.end = <const uint8_t*>text + n
    lua.settop(L, 1)
    if limit:
        lua.pushnil(L)
    while u.p < u.end and (limit == 0 or results < limit):
        if not lua.checkstack(L, 4):
            raise_text(L, "too many results to unpack")
        unpack_value(&u, 0)
        results += 1
    if limit:
        lua.pushnumber(L, -1 if u.p == u.end
                       else <double>(u.p - <const uint8_t*>text))
        lua.replace(L, 2)
        results += 1
    return results


cdef int64_t optional_whole(lua_State *L, int arg, int64_t otherwise) noexcept nogil:
    if lua.gettop(L) < arg or lua.type(L, arg) == LUA_TNIL:
        return otherwise
    return whole(lua.checknumber(L, arg))


cdef int msgpack_unpack(lua_State *L) noexcept nogil:
    return unpack_some(L, 0, 0)


cdef int msgpack_unpack_one(lua_State *L) noexcept nogil:
    return unpack_some(L, 1, optional_whole(L, 2, 0))


cdef int msgpack_unpack_limit(lua_State *L) noexcept nogil:
    cdef int64_t limit = whole(lua.checknumber(L, 2))
    return unpack_some(L, limit, optional_whole(L, 3, 0))


cdef void push_msgpack(lua_State *L) noexcept nogil:
    lua.createtable(L, 0, 8)
    set_function(L, "pack", msgpack_pack)
    set_function(L, "unpack", msgpack_unpack)
    set_function(L, "unpack_one", msgpack_unpack_one)
    set_function(L, "unpack_limit", msgpack_unpack_limit)
    lua.pushstring(L, "cmsgpack")
    lua.setfield(L, -2, "_NAME")
    lua.pushstring(L, "lua-cmsgpack 0.4.0")
    lua.setfield(L, -2, "_VERSION")
    lua.pushstring(L, "MessagePack for Lua")
    lua.setfield(L, -2, "_DESCRIPTION")
