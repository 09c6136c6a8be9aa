# struct: pack(format, ...), unpack(format, text, at), size(format).
#
#   b B h H l L   signed and unsigned char, short, long      T      size_t
#   in In         numbers of n bytes, 1 to 32 (i alone: 4)   f d    float, double
#   s             text up to a zero byte                     x      one byte of padding
#   cn            n characters (c alone: 1); c0: as many as the text has, or, when unpacking, as
#                 the number before it says
#   < >           little, big endian                         !n     align to at most n (! alone: 8)

cdef enum:
    STRUCT_INTEGER = 32     # bytes of the largest

cdef struct Format:
    lua_State *L
    const char *p
    const char *end
    int big
    size_t align


cdef int64_t take_count(Format *f, int64_t otherwise) noexcept nogil:
    cdef int64_t n = 0
    if f.p == f.end or not isdigit(<uint8_t>f.p[0]):
        return otherwise
    while f.p < f.end and isdigit(<uint8_t>f.p[0]):
        n = n * 10 + f.p[0] - c'0'
        f.p += 1
        if n > 0x7fffffff:
            raise_text(f.L, "integral size overflow")
    return n


cdef int64_t option_size(Format *f, char opt) noexcept nogil:
    cdef int64_t n
    cdef char text[96]
    if opt == c'B' or opt == c'b' or opt == c'x':
        return 1
    if opt == c'H' or opt == c'h':
        return 2
    if opt == c'L' or opt == c'l' or opt == c'T' or opt == c'd':
        return 8
    if opt == c'f':
        return 4
    if opt == c'c':
        return take_count(f, 1)
    if opt == c'i' or opt == c'I':
        n = take_count(f, 4)
        if n > STRUCT_INTEGER:
            snprintf(text, sizeof(text), "integral size %d is larger than limit of %d", <int>n,
                     STRUCT_INTEGER)
            raise_text(f.L, text)
        return n
    return 0


cdef size_t padding(Format *f, size_t at, char opt, size_t size) noexcept nogil:
    """Bytes before an item of this size, so that it stands aligned. For sizes that are no power of
    two it is what Redis's formula gives."""
    if size == 0 or opt == c'c':
        return 0
    size = min(size, f.align)
    return (size - (at & (size - 1))) & (size - 1)


cdef void take_control(Format *f, char opt) noexcept nogil:
    """The options that hold no data."""
    cdef int64_t n
    cdef char text[96]
    if opt == c' ':
        pass
    elif opt == c'<':
        f.big = 0
    elif opt == c'>':
        f.big = 1
    elif opt == c'!':
        n = take_count(f, 8)
        if n == 0 or n & (n - 1):
            snprintf(text, sizeof(text), "alignment %d is not a power of 2", <int>n)
            raise_text(f.L, text)
        f.align = <size_t>n
    else:
        snprintf(text, sizeof(text), "invalid format option '%c'", opt)
        lua.argerror(f.L, 1, text)


cdef inline int holds_data(char opt) noexcept nogil:
    return opt != 0 and strchr("bBhHlLTiIfdsxc", opt) != NULL


cdef void format_begin(Format *f, lua_State *L) noexcept nogil:
    cdef size_t n
    f.L = L
    f.p = lua.checklstring(L, 1, &n)
    f.end = f.p + n
    f.big = 0
    f.align = 1


cdef void put_ordered(char *w, const char *p, size_t n, int big) noexcept nogil:
    """Bytes of a number in this machine's order, in the order asked for."""
    cdef size_t i
    for i in range(n):
        w[i] = p[n - 1 - i] if big else p[i]


cdef void put_integer(char *w, size_t n, uint64_t v, int big) noexcept nogil:
    """Bytes beyond the eighth are zero, of negative numbers too."""
    cdef size_t i
    for i in range(n):
        w[n - 1 - i if big else i] = <char>(v >> (8 * i)) if i < 8 else 0


cdef int struct_pack(lua_State *L) noexcept nogil:
    cdef Format f
    cdef Out o
    cdef int arg = 2
    cdef int top = lua.gettop(L)
    cdef char opt
    cdef size_t size, pad, n
    cdef const char *p
    cdef char *w
    cdef double v
    cdef float v4
    cdef uint64_t bits
    format_begin(&f, L)
    hurry(L, vm_of(L))
    lua.pushnil(L)          # what is asked for beyond the arguments
    out_begin(&o, L)
    while f.p < f.end:
        opt = f.p[0]
        f.p += 1
        if not holds_data(opt):
            take_control(&f, opt)
            continue
        size = <size_t>option_size(&f, opt)
        pad = padding(&f, o.n, opt, size)
        memset(out_need(&o, pad), 0, pad)
        o.n += pad
        if opt == c'x':
            out_add(&o, "\0", 1)
            continue
        if arg > top + 1:
            arg = top + 1
        if opt == c's' or opt == c'c':
            p = lua.checklstring(L, arg, &n)
            if opt == c's' or size == 0:
                size = n
            if n < size:
                lua.argerror(L, arg + 1, "string too short")
            out_add(&o, p, size)
            if opt == c's':
                out_add(&o, "\0", 1)
        else:
            v = lua.checknumber(L, arg)
            w = out_need(&o, size)
            if opt == c'f':
                v4 = <float>v
                put_ordered(w, <const char*>&v4, 4, f.big)
            elif opt == c'd':
                put_ordered(w, <const char*>&v, 8, f.big)
            else:
                if v < 0:
                    bits = <uint64_t>whole(v)
                elif v < 9223372036854775808.0:
                    bits = <uint64_t>v
                elif v < 18446744073709551616.0:
                    bits = <uint64_t>v
                else:
                    bits = 0
                put_integer(w, size, bits, f.big)
            o.n += size
        arg += 1
    out_push(&o)
    return 1


cdef int struct_unpack(lua_State *L) noexcept nogil:
    cdef Format f
    cdef size_t n, size
    cdef const char *text
    cdef const char *zero
    cdef int64_t at = 0
    cdef double asked = 1
    cdef int results = 0
    cdef int64_t last = -1
    cdef char opt
    cdef double v
    cdef float v4
    cdef char ordered[8]
    format_begin(&f, L)
    text = lua.checklstring(L, 2, &n)
    if lua.gettop(L) >= 3 and lua.type(L, 3) != LUA_TNIL:
        asked = lua.checknumber(L, 3)
        if asked == 0:
            lua.argerror(L, 3, "offset must be 1 or greater")
    at = whole(asked) - 1
    lua.settop(L, 2)
    while f.p < f.end:
        opt = f.p[0]
        f.p += 1
        if not holds_data(opt):
            take_control(&f, opt)
            continue
        size = <size_t>option_size(&f, opt)
        if at < 0 or at > <int64_t>n:
            lua.argerror(L, 2, "data string too short")
        at += <int64_t>padding(&f, <size_t>at, opt, size)
        if at > <int64_t>n or n - <size_t>at < size:
            lua.argerror(L, 2, "data string too short")
        if not lua.checkstack(L, 4):
            raise_text(L, "too many results")
        if opt == c'x':
            at += 1
            continue
        if opt == c's':
            zero = <const char*>memchr(text + at, 0, n - <size_t>at)
            if zero == NULL:
                raise_text(L, "unfinished string in data")
            size = <size_t>(zero - (text + at))
            lua.pushlstring(L, text + at, size)
            at += <int64_t>size + 1
        elif opt == c'c':
            if size == 0:
                if results == 0 or lua.type(L, -1) != LUA_TNUMBER:
                    raise_text(L, "format 'c0' needs a previous size")
                last = whole(lua.tonumber(L, -1))
                pop(L, 1)
                results -= 1
                if last < 0 or last > <int64_t>n - at:
                    lua.argerror(L, 2, "data string too short")
                size = <size_t>last
            lua.pushlstring(L, text + at, size)
            at += <int64_t>size
        else:
            if opt == c'f':
                put_ordered(ordered, text + at, 4, f.big)
                memcpy(&v4, ordered, 4)
                v = v4
            elif opt == c'd':
                put_ordered(ordered, text + at, 8, f.big)
                memcpy(&v, ordered, 8)
            else:
                v = taken_integer(text + at, size, opt == c'b' or opt == c'h' or opt == c'l'
                                  or opt == c'i', f.big)
            lua.pushnumber(L, v)
            at += <int64_t>size
        results += 1
    lua.pushnumber(L, <double>(at + 1))
    return results + 1


cdef double taken_integer(const char *p, size_t n, int is_signed, int big) noexcept nogil:
    """The lower 8 bytes count."""
    cdef uint64_t v = 0
    cdef size_t i
    cdef uint8_t c
    for i in range(min(n, <size_t>8)):
        c = <uint8_t>p[n - 1 - i if big else i]
        v |= <uint64_t>c << (8 * i)
    if is_signed and 0 < n < 8 and v >> (8 * n - 1) & 1:
        v |= ~<uint64_t>0 << (8 * n)
    if is_signed:
        return <double><int64_t>v
    return <double>v


cdef int struct_size(lua_State *L) noexcept nogil:
    cdef Format f
    cdef size_t at = 0
    cdef size_t size
    cdef char opt
    format_begin(&f, L)
    while f.p < f.end:
        opt = f.p[0]
        f.p += 1
        if not holds_data(opt):
            if not isalnum(<uint8_t>opt):           # a letter without a meaning takes no room
                take_control(&f, opt)
            continue
        size = <size_t>option_size(&f, opt)
        if opt == c's':
            lua.argerror(L, 1, "option 's' has no fixed size")
        if opt == c'c' and size == 0:
            lua.argerror(L, 1, "option 'c0' has no fixed size")
        at += padding(&f, at, opt, size) + size
    lua.pushnumber(L, <double>at)
    return 1


cdef void push_struct(lua_State *L) noexcept nogil:
    lua.createtable(L, 0, 3)
    set_function(L, "pack", struct_pack)
    set_function(L, "unpack", struct_unpack)
    set_function(L, "size", struct_size)
