# What a script can reach.

# Called once per VM, protected: leaves the environment of scripts as the state's globals.
cdef int build_sandbox(lua_State *L) noexcept nogil
# Is this table one that scripts may not change?
cdef inline int is_library(Vm *vm, const void *table) noexcept nogil:
    cdef int i
    for i in range(vm.libraries_n):
        if vm.libraries[i] == table:
            return 1
    return 0

# A growing piece of Lua's own memory, in slot `slot` of the stack: nobody frees it.
cdef struct Out:
    lua_State *L
    char *p
    size_t n
    size_t cap
    int slot
    char first[512]

cdef void out_begin(Out *o, lua_State *L) noexcept nogil        # pushes the slot
cdef char *out_need(Out *o, size_t more) noexcept nogil
cdef inline void out_add(Out *o, const char *p, size_t n) noexcept nogil:
    memcpy(out_need(o, n), p, n)
    o.n += n
cdef void out_push(Out *o) noexcept nogil                       # pushes the string
