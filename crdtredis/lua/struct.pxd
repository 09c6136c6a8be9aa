# struct: numbers and strings from and to bytes.

cdef void push_struct(lua_State *L) noexcept nogil
