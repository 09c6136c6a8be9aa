# Lua's patterns, in a matcher that can be stopped.
#
# A pattern such as ".-.-.-.-x" takes time that grows with a power of the text's length. LuaJIT's
# own matcher runs without an instruction of Lua, so no hook could end it; this one looks at the
# clock every MATCH_STEPS steps. Everything else is as the manual of Lua 5.1 has it (section 5.4.1).
#
# Items of a pattern, and what matches them:
#   single character   x . %a [set]         then  * + - ?   repetitions
#   ( ) and ()         captures             %1    an earlier capture again
#   %bxy               balanced text        %f[set]  a frontier     ^ $  the ends

cdef extern from "<ctype.h>" nogil:
    int isalpha(int c)
    int iscntrl(int c)
    int isalnum(int c)
    int isdigit(int c)
    int islower(int c)
    int ispunct(int c)
    int isspace(int c)
    int isupper(int c)
    int isalnum(int c)
    int isxdigit(int c)
    int tolower(int c)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    extern void *memmem(const void *text, size_t n, const void *part, size_t m);
    #else
    #include <string.h>
    #endif
    """
    void *memmem(const void *text, size_t n, const void *part, size_t m) noexcept nogil

cdef enum:
    OPEN = -1               # length of a capture whose end has not come yet
    POSITION = -2           # ... that holds a place

cdef struct Capture:
    const char *p
    int64_t n

cdef struct Match:
    lua_State *L
    Vm *vm
    const char *text
    const char *end
    const char *pattern_end
    int level
    int depth
    uint32_t steps
    Capture captures[32]


cdef inline void step(Match *m) noexcept nogil:
    m.steps += 1
    if m.steps % MATCH_STEPS == 0:
        check_ending(m.L, m.vm)


cdef const char *class_end(Match *m, const char *p) noexcept nogil:
    """Behind the single-character item at p."""
    cdef char c = p[0]
    p += 1
    if c == c'%':
        if p == m.pattern_end:
            raise_text(m.L, "malformed pattern (ends with '%')")
        return p + 1
    if c == c'[':
        if p < m.pattern_end and p[0] == c'^':
            p += 1
        while True:                             # the first ']' is one of the set
            if p == m.pattern_end:
                raise_text(m.L, "malformed pattern (missing ']')")
            c = p[0]
            p += 1
            if c == c'%' and p < m.pattern_end:
                p += 1
            if p < m.pattern_end and p[0] == c']':
                return p + 1
            if p >= m.pattern_end:
                raise_text(m.L, "malformed pattern (missing ']')")
    return p


cdef int in_class(int c, int kind) noexcept nogil:
    cdef int lowered = tolower(kind)
    cdef int found
    if lowered == c'a':
        found = isalpha(c)
    elif lowered == c'c':
        found = iscntrl(c)
    elif lowered == c'd':
        found = isdigit(c)
    elif lowered == c'l':
        found = islower(c)
    elif lowered == c'p':
        found = ispunct(c)
    elif lowered == c's':
        found = isspace(c)
    elif lowered == c'u':
        found = isupper(c)
    elif lowered == c'w':
        found = isalnum(c)
    elif lowered == c'x':
        found = isxdigit(c)
    elif lowered == c'z':
        found = c == 0
    else:
        return kind == c
    return (found != 0) != (isupper(kind) != 0)


cdef int in_set(int c, const char *p, const char *last) noexcept nogil:
    """p stands on '[', last on the ']' that ends the set."""
    cdef int wanted = 1
    p += 1
    if p[0] == c'^':
        wanted = 0
        p += 1
    while p < last:
        if p[0] == c'%' and p + 1 < last:
            if in_class(c, <uint8_t>p[1]):
                return wanted
            p += 2
        elif p[1] == c'-' and p + 2 < last:
            if <uint8_t>p[0] <= c <= <uint8_t>p[2]:
                return wanted
            p += 3
        else:
            if <uint8_t>p[0] == c:
                return wanted
            p += 1
    return not wanted


cdef int one_matches(Match *m, const char *s, const char *p, const char *after) noexcept nogil:
    """Does the item from p to `after` match the character at s?"""
    cdef int c
    if s >= m.end:
        return 0
    c = <uint8_t>s[0]
    if p[0] == c'.':
        return 1
    if p[0] == c'%':
        return in_class(c, <uint8_t>p[1])
    if p[0] == c'[':
        return in_set(c, p, after - 1)
    return <uint8_t>p[0] == c


cdef const char *match_balance(Match *m, const char *s, const char *p) noexcept nogil:
    cdef int deep = 1
    if m.pattern_end - p < 2:
        raise_text(m.L, "unbalanced pattern")
    if s >= m.end or s[0] != p[0]:
        return NULL
    s += 1
    while s < m.end:
        step(m)
        if s[0] == p[1]:
            deep -= 1
            if deep == 0:
                return s + 1
        elif s[0] == p[0]:
            deep += 1
        s += 1
    return NULL


cdef const char *match_repeated(Match *m, const char *s, const char *p, const char *after,
                                int most) noexcept nogil:
    """The item as often as it goes, then the rest; less often while the rest does not match."""
    cdef int64_t n = 0
    cdef const char *found
    while one_matches(m, s + n, p, after):
        n += 1
        step(m)
    while n >= most:
        found = match_here(m, s + n, after + 1)
        if found != NULL:
            return found
        n -= 1
        step(m)
    return NULL


cdef int capture_to_close(Match *m) noexcept nogil:
    cdef int i = m.level - 1
    while i >= 0:
        if m.captures[i].n == OPEN:
            return i
        i -= 1
    raise_text(m.L, "invalid pattern capture")
    return 0


cdef int checked_capture(Match *m, int digit) noexcept nogil:
    cdef int i = digit - c'1'
    if i < 0 or i >= m.level or m.captures[i].n == OPEN:
        raise_text(m.L, "invalid capture index")
    return i


cdef const char *match_here(Match *m, const char *s, const char *p) noexcept nogil:
    """Where the match of the pattern from p on ends, in text from s on; NULL: there is none."""
    cdef const char *after
    cdef const char *found
    cdef char c, before
    cdef int i
    m.depth += 1
    if m.depth > MATCH_DEPTH:
        raise_text(m.L, "pattern too complex")
    while True:
        step(m)
        if p == m.pattern_end:
            break
        c = p[0]
        if c == c'(':
            if m.level >= CAPTURES:
                raise_text(m.L, "too many captures")
            i = m.level
            m.captures[i].p = s
            if p + 1 < m.pattern_end and p[1] == c')':
                m.captures[i].n = POSITION
                p += 2
            else:
                m.captures[i].n = OPEN
                p += 1
            m.level = i + 1
            found = match_here(m, s, p)
            if found == NULL:
                m.level -= 1
            s = found
            break
        if c == c')':
            i = capture_to_close(m)
            m.captures[i].n = s - m.captures[i].p
            found = match_here(m, s, p + 1)
            if found == NULL:
                m.captures[i].n = OPEN
            s = found
            break
        if c == c'$' and p + 1 == m.pattern_end:
            if s != m.end:
                s = NULL
            break
        if c == c'%' and p + 1 < m.pattern_end:
            if p[1] == c'b':
                s = match_balance(m, s, p + 2)
                if s == NULL:
                    break
                p += 4
                continue
            if p[1] == c'f':
                p += 2
                if p == m.pattern_end or p[0] != c'[':
                    raise_text(m.L, "missing '[' after '%f' in pattern")
                after = class_end(m, p)
                before = 0 if s == m.text else (s - 1)[0]
                c = s[0] if s < m.end else 0
                if (in_set(<uint8_t>before, p, after - 1)
                        or not in_set(<uint8_t>c, p, after - 1)):
                    s = NULL
                    break
                p = after
                continue
            if isdigit(<uint8_t>p[1]):
                i = checked_capture(m, p[1])
                if (m.captures[i].n < 0 or m.end - s < m.captures[i].n
                        or memcmp(m.captures[i].p, s, <size_t>m.captures[i].n) != 0):
                    s = NULL
                    break
                m.steps += <uint32_t>(m.captures[i].n // 64)
                s += m.captures[i].n
                p += 2
                continue
        after = class_end(m, p)
        c = after[0] if after < m.pattern_end else 0
        if c == c'?':
            if one_matches(m, s, p, after):
                found = match_here(m, s + 1, after + 1)
                if found != NULL:
                    s = found
                    break
            p = after + 1
        elif c == c'*':
            s = match_repeated(m, s, p, after, 0)
            break
        elif c == c'+':
            s = match_repeated(m, s, p, after, 1)
            break
        elif c == c'-':
            while True:
                found = match_here(m, s, after + 1)
                if found != NULL:
                    s = found
                    break
                if not one_matches(m, s, p, after):
                    s = NULL
                    break
                s += 1
                step(m)
            break
        elif one_matches(m, s, p, after):
            s += 1
            p = after
        else:
            s = NULL
            break
    m.depth -= 1
    return s


# ---- the functions -------------------------------------------------------------------------------

cdef void begin_match(Match *m, lua_State *L, const char *s, size_t n, const char *p,
                      size_t k) noexcept nogil:
    m.L = L
    m.vm = vm_of(L)
    m.text = s
    m.end = s + n
    m.pattern_end = p + k
    m.level = 0
    m.depth = 0
    m.steps = 0


cdef void push_capture(Match *m, int i, const char *s, const char *e) noexcept nogil:
    """Capture i; of a pattern without captures, the whole match is the first."""
    if i >= m.level:
        if i != 0:
            raise_text(m.L, "invalid capture index")
        lua.pushlstring(m.L, s, <size_t>(e - s))
    elif m.captures[i].n == POSITION:
        lua.pushnumber(m.L, <double>(m.captures[i].p - m.text + 1))
    elif m.captures[i].n == OPEN:
        raise_text(m.L, "unfinished capture")
    else:
        lua.pushlstring(m.L, m.captures[i].p, <size_t>m.captures[i].n)


cdef int push_captures(Match *m, const char *s, const char *e) noexcept nogil:
    cdef int n = m.level if m.level or s == NULL else 1
    cdef int i
    lua.checkstack(m.L, n + 4)
    for i in range(n):
        push_capture(m, i, s, e)
    return n


cdef int find_or_match(lua_State *L, int finds) noexcept nogil:
    cdef size_t n, k
    cdef const char *s = lua.checklstring(L, 1, &n)
    cdef const char *p = lua.checklstring(L, 2, &k)
    cdef double asked = 1
    cdef int64_t first
    cdef const char *at
    cdef const char *e
    cdef Match m
    cdef int anchored, plain
    cdef size_t i
    if lua.type(L, 3) > LUA_TNIL:
        asked = lua.checknumber(L, 3)
    first = whole(asked)
    if first < 0:
        first += <int64_t>n + 1
    first = min(max(first - 1, 0), <int64_t>n)
    if finds:
        plain = lua.toboolean(L, 4)
        if not plain:
            plain = 1
            for i in range(k):
                if p[i] != 0 and strchr("^$*+?.([%-", p[i]) != NULL:
                    plain = 0
                    break
        if plain:
            at = s + first if k == 0 else <const char*>memmem(s + first, n - <size_t>first, p, k)
            if n >= LARGE_ALLOCATION:
                hurry(L, vm_of(L))
            if at == NULL:
                lua.pushnil(L)
                return 1
            lua.pushnumber(L, <double>(at - s + 1))
            lua.pushnumber(L, <double>(at - s) + <double>k)
            return 2
    begin_match(&m, L, s, n, p, k)
    anchored = k > 0 and p[0] == c'^'
    p += anchored
    at = s + first
    while True:
        m.level = 0
        m.depth = 0
        e = match_here(&m, at, p)
        if e != NULL:
            if finds:
                lua.pushnumber(L, <double>(at - s + 1))
                lua.pushnumber(L, <double>(e - s))
                return push_captures(&m, NULL, NULL) + 2
            return push_captures(&m, at, e)
        at += 1
        if at > m.end or anchored:
            break
    lua.pushnil(L)
    return 1


cdef int lua_find(lua_State *L) noexcept nogil:
    return find_or_match(L, 1)


cdef int lua_match(lua_State *L) noexcept nogil:
    return find_or_match(L, 0)


cdef int gmatch_next(lua_State *L) noexcept nogil:
    cdef size_t n, k
    cdef const char *s = lua.tolstring(L, LUA_GLOBALSINDEX - 1, &n)
    cdef const char *p = lua.tolstring(L, LUA_GLOBALSINDEX - 2, &k)
    cdef const char *at = s + whole(lua.tonumber(L, LUA_GLOBALSINDEX - 3))
    cdef const char *e
    cdef Match m
    begin_match(&m, L, s, n, p, k)
    while at <= m.end:
        m.level = 0
        m.depth = 0
        e = match_here(&m, at, p)
        if e != NULL:
            lua.pushnumber(L, <double>(e - s + (e == at)))
            lua.replace(L, LUA_GLOBALSINDEX - 3)
            return push_captures(&m, at, e)
        at += 1
    return 0


cdef int lua_gmatch(lua_State *L) noexcept nogil:
    cdef size_t n
    lua.checklstring(L, 1, &n)
    lua.checklstring(L, 2, &n)
    lua.settop(L, 2)
    lua.pushnumber(L, 0)
    lua.pushcclosure(L, gmatch_next, 3)
    return 1


cdef void add_text(Match *m, Out *o, const char *s, const char *e) noexcept nogil:
    """The replacement string, with its %0 to %9."""
    cdef size_t n, i, k
    cdef const char *text = lua.tolstring(m.L, 3, &n)
    cdef const char *p
    i = 0
    while i < n:
        if text[i] != c'%':
            out_add(o, text + i, 1)
        else:
            i += 1
            if i >= n or not isdigit(<uint8_t>text[i]):
                out_add(o, text + min(i, n), 1 if i <= n else 0)    # behind the end: a NUL
            elif text[i] == c'0':
                out_add(o, s, <size_t>(e - s))
            else:
                push_capture(m, text[i] - c'1', s, e)
                p = lua.tolstring(m.L, -1, &k)
                out_add(o, p, k)
                pop(m.L, 1)
        i += 1


cdef void add_value(Match *m, Out *o, const char *s, const char *e, int type) noexcept nogil:
    cdef lua_State *L = m.L
    cdef size_t n
    cdef const char *p
    cdef int k
    cdef char text[96]
    if type == LUA_TFUNCTION:
        lua.pushvalue(L, 3)
        k = push_captures(m, s, e)
        lua.call(L, k, 1)
    elif type == LUA_TTABLE:
        push_capture(m, 0, s, e)
        lua.gettable(L, 3)
    else:
        add_text(m, o, s, e)
        return
    if not lua.toboolean(L, -1):
        out_add(o, s, <size_t>(e - s))
    elif lua.type(L, -1) == LUA_TSTRING or lua.type(L, -1) == LUA_TNUMBER:
        p = lua.tolstring(L, -1, &n)
        out_add(o, p, n)
    else:
        snprintf(text, sizeof(text), "invalid replacement value (a %s)",
                 lua.typename(L, lua.type(L, -1)))
        raise_text(L, text)
    pop(L, 1)


cdef int lua_gsub(lua_State *L) noexcept nogil:
    cdef size_t n, k
    cdef const char *s = lua.checklstring(L, 1, &n)
    cdef const char *p = lua.checklstring(L, 2, &k)
    cdef int type = lua.type(L, 3)
    cdef int64_t most = <int64_t>n + 1
    cdef int64_t done = 0
    cdef int anchored
    cdef const char *e
    cdef Match m
    cdef Out o
    check_stack(L, vm_of(L))
    if (type != LUA_TNUMBER and type != LUA_TSTRING and type != LUA_TFUNCTION
            and type != LUA_TTABLE):
        lua.argerror(L, 3, "string/function/table expected")
    if lua.type(L, 4) > LUA_TNIL:
        most = whole(lua.checknumber(L, 4))
    lua.settop(L, 3)
    if type == LUA_TNUMBER:
        lua.tolstring(L, 3, NULL)
    begin_match(&m, L, s, n, p, k)
    anchored = k > 0 and p[0] == c'^'
    p += anchored
    out_begin(&o, L)
    while done < most:
        m.level = 0
        m.depth = 0
        e = match_here(&m, s, p)
        if e != NULL:
            done += 1
            add_value(&m, &o, s, e, type)
        if e != NULL and e > s:
            s = e
        elif s < m.end:
            out_add(&o, s, 1)
            s += 1
        else:
            break
        if anchored:
            break
    out_add(&o, s, <size_t>(m.end - s))
    out_push(&o)
    lua.pushnumber(L, <double>done)
    return 2
