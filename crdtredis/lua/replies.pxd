# RESP into Lua values and back.

# Pushes the value of the reply's first element in the dialect of vm.resp. 1: it is an error reply.
cdef int push_reply(Vm *vm, lua_State *L, Span reply) noexcept nogil
# Appends what the value at idx stands for. 1: no error reply.
cdef int reply_of_value(Vm *vm, lua_State *L, int idx, Reply *out, int depth) noexcept nogil
# Appends the error on top of the stack, as the end of a script.
cdef void reply_of_error(Vm *vm, lua_State *L, Reply *out, const char *sha) noexcept nogil
# Pushes {err = text}. text: "CODE ..." behind a '-', else ERR is put before it.
cdef void push_error_table(lua_State *L, const char *p, size_t n) noexcept nogil
