# string.find, match, gmatch and gsub.

cdef enum:
    CAPTURES = 32
    MATCH_DEPTH = 200       # nested calls of a match on the C stack
    MATCH_STEPS = 1 << 14   # between two looks at the clock

cdef int lua_find(lua_State *L) noexcept nogil
cdef int lua_match(lua_State *L) noexcept nogil
cdef int lua_gmatch(lua_State *L) noexcept nogil
cdef int lua_gsub(lua_State *L) noexcept nogil
