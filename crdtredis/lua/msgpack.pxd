# cmsgpack: MessagePack from and to Lua values.

cdef void push_msgpack(lua_State *L) noexcept nogil
