# cjson: the module of that name as scripts know it from Redis.
#
# A table whose keys are all positive whole numbers is an array, up to its greatest; any other, and
# the empty one, is an object. An array with many holes is refused, or becomes an object
# (encode_sparse_array). null is the light userdata NULL. Settings belong to the module and outlive
# the script, as in Redis.
#
# decode_array_with_array_mt(true): decoded arrays get a metatable by which an empty one is
# written as [] again.

cdef enum JsonToken:
    J_OBJECT
    J_OBJECT_END
    J_ARRAY
    J_ARRAY_END
    J_STRING
    J_NUMBER
    J_TRUE
    J_FALSE
    J_NULL
    J_COLON
    J_COMMA
    J_END
    J_ERROR

cdef const char **TOKEN_NAMES = [
    "T_OBJ_BEGIN", "T_OBJ_END", "T_ARR_BEGIN", "T_ARR_END", "T_STRING", "T_NUMBER", "T_BOOLEAN",
    "T_BOOLEAN", "T_NULL", "T_COLON", "T_COMMA", "T_END"]

cdef const char *ARRAY_MT = "crdtredis.array_mt"


cdef inline Json *json_settings(lua_State *L) noexcept nogil:
    return <Json*>lua.touserdata(L, LUA_GLOBALSINDEX - 1)


# ---- encoding ------------------------------------------------------------------------------------

cdef void encode_string(Out *o, const char *p, size_t n) noexcept nogil:
    cdef char *w = out_need(o, 6 * n + 2)
    cdef size_t i
    cdef uint8_t c
    cdef char short
    w[0] = c'"'
    w += 1
    for i in range(n):
        c = <uint8_t>p[i]
        if c >= 32 and c != c'"' and c != c'\\' and c != c'/' and c != 127:
            w[0] = <char>c
            w += 1
            continue
        w[0] = c'\\'
        short = 0
        if c == c'"' or c == c'\\' or c == c'/':
            short = <char>c
        elif c == 8:
            short = c'b'
        elif c == 9:
            short = c't'
        elif c == 10:
            short = c'n'
        elif c == 12:
            short = c'f'
        elif c == 13:
            short = c'r'
        if short:
            w[1] = short
            w += 2
        else:
            memcpy(w + 1, <const char*>"u00", 3)
            w[4] = b"0123456789abcdef"[c >> 4]
            w[5] = b"0123456789abcdef"[c & 15]
            w += 6
    w[0] = c'"'
    o.n = <size_t>(w + 1 - o.p)


cdef void encode_number(lua_State *L, Json *j, Out *o, double v) noexcept nogil:
    cdef char text[64]
    cdef int n
    if v - v != 0:                              # infinite, or not a number
        if j.encode_invalid == INVALID_NULL:
            out_add(o, "null", 4)
            return
        if j.encode_invalid == INVALID_REFUSED:
            raise_text(L, "Cannot serialise number: must not be NaN or Inf")
        if v != v:
            out_add(o, "nan", 3)
        elif v > 0:
            out_add(o, "inf", 3)
        else:
            out_add(o, "-inf", 4)
        return
    n = snprintf(text, sizeof(text), "%.*g", j.precision, v)
    out_add(o, text, <size_t>n)


cdef int64_t array_length(lua_State *L, Json *j, int idx) noexcept nogil:
    """Elements of the array, or -1: it is an object."""
    cdef double v
    cdef double greatest = 0
    cdef int64_t n = 0
    lua.pushnil(L)
    while lua.next(L, idx):
        pop(L, 1)
        if lua.type(L, -1) == LUA_TNUMBER:
            v = lua.tonumber(L, -1)
            if v >= 1 and v <= 1 << 30 and v == <double><int64_t>v:
                n += 1
                greatest = max(greatest, v)
                continue
        pop(L, 1)
        return -1
    if (j.sparse_ratio > 0 and greatest > <double>n * j.sparse_ratio
            and greatest > j.sparse_safe):
        if not j.sparse_convert:
            raise_text(L, "Cannot serialise table: excessively sparse array")
        return -1
    return <int64_t>greatest


cdef int is_array(lua_State *L, int idx) noexcept nogil:
    cdef int same
    if not lua.getmetatable(L, idx):
        return 0
    lua.getfield(L, LUA_REGISTRYINDEX, ARRAY_MT)
    same = lua.topointer(L, -1) == lua.topointer(L, -2)
    pop(L, 2)
    return same


cdef void encode_value(lua_State *L, Json *j, Out *o, int depth) noexcept nogil:
    """Of the value on top of the stack, which stays."""
    cdef int type = lua.type(L, -1)
    cdef int idx = lua.gettop(L)
    cdef size_t n
    cdef const char *p
    cdef int64_t count, i
    cdef char text[96]
    cdef int first = 1
    walk_on(L, vm_of(L))
    if type == LUA_TSTRING:
        p = lua.tolstring(L, -1, &n)
        encode_string(o, p, n)
    elif type == LUA_TNUMBER:
        encode_number(L, j, o, lua.tonumber(L, -1))
    elif type == LUA_TBOOLEAN:
        if lua.toboolean(L, -1):
            out_add(o, "true", 4)
        else:
            out_add(o, "false", 5)
    elif type == LUA_TNIL or (type == LUA_TLIGHTUSERDATA and lua.touserdata(L, -1) == NULL):
        out_add(o, "null", 4)
    elif type == LUA_TTABLE:
        depth += 1
        if depth > j.encode_depth or not lua.checkstack(L, 8):
            snprintf(text, sizeof(text), "Cannot serialise, excessive nesting (%d)", depth)
            raise_text(L, text)
        check_stack(L, vm_of(L))
        count = array_length(L, j, idx)
        if count > 0 or (count == 0 and is_array(L, idx)):
            out_add(o, "[", 1)
            for i in range(count):
                if i:
                    out_add(o, ",", 1)
                lua.rawgeti(L, idx, <int>(i + 1))
                encode_value(L, j, o, depth)
                pop(L, 1)
            out_add(o, "]", 1)
            return
        out_add(o, "{", 1)
        lua.pushnil(L)
        while lua.next(L, idx):
            if not first:
                out_add(o, ",", 1)
            first = 0
            if lua.type(L, -2) == LUA_TNUMBER:
                out_add(o, "\"", 1)
                encode_number(L, j, o, lua.tonumber(L, -2))
                out_add(o, "\"", 1)
            elif lua.type(L, -2) == LUA_TSTRING:
                p = lua.tolstring(L, -2, &n)
                encode_string(o, p, n)
            else:
                snprintf(text, sizeof(text),
                         "Cannot serialise %s: table key must be a number or string",
                         lua.typename(L, lua.type(L, -2)))
                raise_text(L, text)
            out_add(o, ":", 1)
            encode_value(L, j, o, depth)
            pop(L, 1)
        out_add(o, "}", 1)
    else:
        snprintf(text, sizeof(text), "Cannot serialise %s: type not supported",
                 lua.typename(L, type))
        raise_text(L, text)


cdef int json_encode(lua_State *L) noexcept nogil:
    cdef Out o
    if lua.gettop(L) != 1:
        lua.argerror(L, 1, "expected 1 argument")
    hurry(L, vm_of(L))
    out_begin(&o, L)
    lua.pushvalue(L, 1)
    encode_value(L, json_settings(L), &o, 0)
    out_push(&o)
    return 1


# ---- decoding ------------------------------------------------------------------------------------

cdef struct Scanner:
    lua_State *L
    Json *settings
    const char *text
    const char *p
    const char *end
    const char *token       # where it begins
    const char *error
    double number
    int depth
    Out out                 # the string, of J_STRING


cdef int hex4(const char *p, const char *end) noexcept nogil:
    cdef int v = 0
    cdef int i, c
    if end - p < 4:
        return -1
    for i in range(4):
        c = <uint8_t>p[i]
        if not isxdigit(c):
            return -1
        v = v << 4 | (c - c'0' if c <= c'9' else (c | 32) - c'a' + 10)
    return v


cdef void add_utf8(Out *o, int v) noexcept nogil:
    cdef char *w = out_need(o, 4)
    if v < 0x80:
        w[0] = <char>v
        o.n += 1
    elif v < 0x800:
        w[0] = <char>(0xc0 | v >> 6)
        w[1] = <char>(0x80 | v & 0x3f)
        o.n += 2
    elif v < 0x10000:
        w[0] = <char>(0xe0 | v >> 12)
        w[1] = <char>(0x80 | v >> 6 & 0x3f)
        w[2] = <char>(0x80 | v & 0x3f)
        o.n += 3
    else:
        w[0] = <char>(0xf0 | v >> 18)
        w[1] = <char>(0x80 | v >> 12 & 0x3f)
        w[2] = <char>(0x80 | v >> 6 & 0x3f)
        w[3] = <char>(0x80 | v & 0x3f)
        o.n += 4


cdef JsonToken scan_error(Scanner *s, const char *at, const char *text) noexcept nogil:
    s.token = at
    s.error = text
    return J_ERROR


cdef JsonToken scan_string(Scanner *s) noexcept nogil:
    cdef Out *o = &s.out
    cdef const char *run = s.p
    cdef const char *begun
    cdef int v, low
    cdef char c
    o.n = 0
    while True:
        if s.p == s.end:
            return scan_error(s, s.p, "unexpected end of string")
        c = s.p[0]
        if c != c'"' and c != c'\\':
            s.p += 1
            continue
        out_add(o, run, <size_t>(s.p - run))
        s.p += 1
        if c == c'"':
            return J_STRING
        begun = s.p - 1
        c = s.p[0] if s.p < s.end else 0
        s.p += s.p < s.end
        if c == c'u':
            v = hex4(s.p, s.end)
            if 0xd800 <= v < 0xdc00 and s.end - s.p >= 6 and s.p[4] == c'\\' and s.p[5] == c'u':
                low = hex4(s.p + 6, s.end)
                if 0xdc00 <= low < 0xe000:
                    v = 0x10000 + ((v - 0xd800) << 10) + low - 0xdc00
                    s.p += 6
            if v < 0 or 0xd800 <= v < 0xe000:
                return scan_error(s, begun, "invalid unicode escape code")
            s.p += 4
            add_utf8(o, v)
        else:
            if c == c'b':
                c = 8
            elif c == c't':
                c = 9
            elif c == c'n':
                c = 10
            elif c == c'f':
                c = 12
            elif c == c'r':
                c = 13
            elif c != c'"' and c != c'\\' and c != c'/':
                return scan_error(s, begun, "invalid escape code")
            out_add(o, &c, 1)
        run = s.p


cdef inline int is_named(const char *p, const char *end, const char *name, int n) noexcept nogil:
    """Is it inf, nan or infinity, in any case?"""
    cdef int i
    if end - p < n:
        return 0
    for i in range(n):
        if tolower(<uint8_t>p[i]) != name[i]:
            return 0
    return 1


cdef int is_odd_number(const char *p, const char *end) noexcept nogil:
    """One that JSON does not have: hexadecimal, infinite, not a number, with a leading zero."""
    if p < end and (p[0] == c'-' or p[0] == c'+'):
        p += 1
    if p < end and p[0] == c'0':
        return end - p > 1 and (isdigit(<uint8_t>p[1]) or p[1] == c'x' or p[1] == c'X')
    return is_named(p, end, "inf", 3) or is_named(p, end, "nan", 3)


cdef JsonToken scan_number(Scanner *s) noexcept nogil:
    """The text of a Lua string ends with a NUL, so strtod stays inside."""
    cdef char *after
    if s.settings.decode_invalid == INVALID_REFUSED and is_odd_number(s.p, s.end):
        return scan_error(s, s.p, "invalid number")
    s.number = strtod(s.p, &after)
    if after == s.p:
        return scan_error(s, s.p, "invalid number")
    s.p = after
    return J_NUMBER


cdef JsonToken scan(Scanner *s) noexcept nogil:
    """The next token; s.token is where it begins."""
    cdef char c
    while s.p < s.end and (s.p[0] == c' ' or 9 <= s.p[0] <= 10 or s.p[0] == 13):
        s.p += 1
    s.token = s.p
    if s.p == s.end or s.p[0] == 0:
        return J_END
    c = s.p[0]
    s.p += 1
    if c == c'{':
        return J_OBJECT
    if c == c'}':
        return J_OBJECT_END
    if c == c'[':
        return J_ARRAY
    if c == c']':
        return J_ARRAY_END
    if c == c',':
        return J_COMMA
    if c == c':':
        return J_COLON
    if c == c'"':
        return scan_string(s)
    s.p -= 1
    if c == c'-' or c == c'+' or isdigit(<uint8_t>c):
        return scan_number(s)
    if s.end - s.p >= 4 and memcmp(s.p, <const char*>"true", 4) == 0:
        s.p += 4
        return J_TRUE
    if s.end - s.p >= 5 and memcmp(s.p, <const char*>"false", 5) == 0:
        s.p += 5
        return J_FALSE
    if s.end - s.p >= 4 and memcmp(s.p, <const char*>"null", 4) == 0:
        s.p += 4
        return J_NULL
    if s.settings.decode_invalid != INVALID_REFUSED and is_odd_number(s.p, s.end):
        return scan_number(s)
    return scan_error(s, s.p, "invalid token")


cdef void fail_scan(Scanner *s, const char *wanted, JsonToken found) noexcept nogil:
    cdef char text[160]
    snprintf(text, sizeof(text), "Expected %s but found %s at character %zu", wanted,
             s.error if found == J_ERROR else TOKEN_NAMES[<int>found],
             <size_t>(s.token - s.text) + 1)
    raise_text(s.L, text)


cdef void deeper(Scanner *s) noexcept nogil:
    cdef char text[96]
    s.depth += 1
    if s.depth > s.settings.decode_depth or not lua.checkstack(s.L, 8):
        snprintf(text, sizeof(text), "Found too many nested data structures (%d) at character %zu",
                 s.depth, <size_t>(s.p - s.text))
        raise_text(s.L, text)
    check_stack(s.L, vm_of(s.L))


cdef void decode_value(Scanner *s, JsonToken t) noexcept nogil:
    cdef lua_State *L = s.L
    cdef int n = 0
    walk_on(L, vm_of(L))
    if t == J_STRING:
        lua.pushlstring(L, s.out.p, s.out.n)
    elif t == J_NUMBER:
        lua.pushnumber(L, s.number)
    elif t == J_TRUE or t == J_FALSE:
        lua.pushboolean(L, t == J_TRUE)
    elif t == J_NULL:
        lua.pushlightuserdata(L, NULL)
    elif t == J_ARRAY:
        deeper(s)
        lua.createtable(L, 0, 0)
        if s.settings.array_mt:
            lua.getfield(L, LUA_REGISTRYINDEX, ARRAY_MT)
            lua.setmetatable(L, -2)
        t = scan(s)
        if t != J_ARRAY_END:
            while True:
                decode_value(s, t)
                n += 1
                lua.rawseti(L, -2, n)
                t = scan(s)
                if t == J_ARRAY_END:
                    break
                if t != J_COMMA:
                    fail_scan(s, "comma or array end", t)
                t = scan(s)
        s.depth -= 1
    elif t == J_OBJECT:
        deeper(s)
        lua.createtable(L, 0, 0)
        t = scan(s)
        if t != J_OBJECT_END:
            while True:
                if t != J_STRING:
                    fail_scan(s, "object key string", t)
                lua.pushlstring(L, s.out.p, s.out.n)
                t = scan(s)
                if t != J_COLON:
                    fail_scan(s, "colon", t)
                decode_value(s, scan(s))
                lua.rawset(L, -3)
                t = scan(s)
                if t == J_OBJECT_END:
                    break
                if t != J_COMMA:
                    fail_scan(s, "comma or object end", t)
                t = scan(s)
        s.depth -= 1
    else:
        fail_scan(s, "value", t)


cdef int json_decode(lua_State *L) noexcept nogil:
    cdef Scanner s
    cdef size_t n
    cdef JsonToken t
    if lua.gettop(L) != 1:
        lua.argerror(L, 1, "expected 1 argument")
    s.text = lua.checklstring(L, 1, &n)
    if n >= 2 and (s.text[0] == 0 or s.text[1] == 0):
        raise_text(L, "JSON parser does not support UTF-16 or UTF-32")
    hurry(L, vm_of(L))
    s.L = L
    s.settings = json_settings(L)
    s.p = s.text
    s.end = s.text + n
    s.depth = 0
    s.error = NULL
    out_begin(&s.out, L)
    decode_value(&s, scan(&s))
    t = scan(&s)
    if t != J_END:
        fail_scan(&s, "the end", t)
    return 1


# ---- settings ------------------------------------------------------------------------------------

cdef void set_whole(lua_State *L, int arg, int *where, int low, int high) noexcept nogil:
    """Sets from the argument, if it is there, and pushes what holds."""
    cdef double v
    cdef char text[96]
    if lua.gettop(L) >= arg and lua.type(L, arg) != LUA_TNIL:
        v = lua.checknumber(L, arg)
        if not low <= v <= high:
            snprintf(text, sizeof(text), "expected integer between %d and %d", low, high)
            lua.argerror(L, arg, text)
        where[0] = <int>v


cdef void set_flag_setting(lua_State *L, int arg, int *where, int with_null) noexcept nogil:
    cdef const char *p
    cdef size_t n
    cdef char text[96]
    if lua.gettop(L) < arg or lua.type(L, arg) == LUA_TNIL:
        return
    if lua.type(L, arg) == LUA_TBOOLEAN:
        where[0] = lua.toboolean(L, arg)
        return
    p = lua.checklstring(L, arg, &n)
    if n == 2 and memcmp(p, <const char*>"on", 2) == 0:
        where[0] = 1
    elif n == 3 and memcmp(p, <const char*>"off", 3) == 0:
        where[0] = 0
    elif with_null and n == 4 and memcmp(p, <const char*>"null", 4) == 0:
        where[0] = INVALID_NULL
    else:
        snprintf(text, sizeof(text), "invalid option '%.40s'", p)
        lua.argerror(L, arg, text)


cdef int push_flag(lua_State *L, int v) noexcept nogil:
    if v == INVALID_NULL:
        lua.pushstring(L, "null")
    else:
        lua.pushboolean(L, v)
    return 1


cdef int json_encode_sparse_array(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_flag_setting(L, 1, &j.sparse_convert, 0)
    set_whole(L, 2, &j.sparse_ratio, 0, 0x7fffffff)
    set_whole(L, 3, &j.sparse_safe, 0, 0x7fffffff)
    lua.pushboolean(L, j.sparse_convert)
    lua.pushnumber(L, j.sparse_ratio)
    lua.pushnumber(L, j.sparse_safe)
    return 3


cdef int json_encode_max_depth(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_whole(L, 1, &j.encode_depth, 1, 0x7fffffff)
    lua.pushnumber(L, j.encode_depth)
    return 1


cdef int json_decode_max_depth(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_whole(L, 1, &j.decode_depth, 1, 0x7fffffff)
    lua.pushnumber(L, j.decode_depth)
    return 1


cdef int json_encode_number_precision(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_whole(L, 1, &j.precision, 1, 14)
    lua.pushnumber(L, j.precision)
    return 1


cdef int json_encode_invalid_numbers(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_flag_setting(L, 1, &j.encode_invalid, 1)
    return push_flag(L, j.encode_invalid)


cdef int json_decode_invalid_numbers(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_flag_setting(L, 1, &j.decode_invalid, 0)
    return push_flag(L, j.decode_invalid)


cdef int json_encode_keep_buffer(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_flag_setting(L, 1, &j.keep_buffer, 0)
    return push_flag(L, j.keep_buffer)


cdef int json_decode_array_with_array_mt(lua_State *L) noexcept nogil:
    cdef Json *j = json_settings(L)
    set_flag_setting(L, 1, &j.array_mt, 0)
    return push_flag(L, j.array_mt)


cdef int json_new(lua_State *L) noexcept nogil:
    push_json(L)
    return 1


cdef void set_json(lua_State *L, const char *name, lua_CFunction f) noexcept nogil:
    """A function with the settings, which stand below the module, as its upvalue."""
    lua.pushvalue(L, -2)
    lua.pushcclosure(L, f, 1)
    lua.setfield(L, -2, name)


cdef void push_json(lua_State *L) noexcept nogil:
    cdef Json *j = <Json*>lua.newuserdata(L, sizeof(Json))
    memset(j, 0, sizeof(Json))
    j.sparse_ratio = 2
    j.sparse_safe = 10
    j.encode_depth = 1000
    j.decode_depth = 1000
    j.precision = 14
    j.encode_invalid = INVALID_REFUSED
    j.decode_invalid = INVALID_KEPT
    j.keep_buffer = 1
    lua.getfield(L, LUA_REGISTRYINDEX, ARRAY_MT)
    if lua.type(L, -1) == LUA_TNIL:
        lua.createtable(L, 0, 1)
        lua.pushboolean(L, 0)
        lua.setfield(L, -2, "__metatable")
        lua.setfield(L, LUA_REGISTRYINDEX, ARRAY_MT)
    pop(L, 1)
    lua.createtable(L, 0, 16)
    set_json(L, "encode", json_encode)
    set_json(L, "decode", json_decode)
    set_json(L, "encode_sparse_array", json_encode_sparse_array)
    set_json(L, "encode_max_depth", json_encode_max_depth)
    set_json(L, "decode_max_depth", json_decode_max_depth)
    set_json(L, "encode_number_precision", json_encode_number_precision)
    set_json(L, "encode_keep_buffer", json_encode_keep_buffer)
    set_json(L, "encode_invalid_numbers", json_encode_invalid_numbers)
    set_json(L, "decode_invalid_numbers", json_decode_invalid_numbers)
    set_json(L, "decode_array_with_array_mt", json_decode_array_with_array_mt)
    set_json(L, "new", json_new)
    lua.pushlightuserdata(L, NULL)
    lua.setfield(L, -2, "null")
    lua.pushstring(L, "cjson")
    lua.setfield(L, -2, "_NAME")
    lua.pushstring(L, "2.1.0")
    lua.setfield(L, -2, "_VERSION")
    lua.remove(L, -2)
