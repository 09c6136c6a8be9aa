# Libraries of functions: loading one, and calling what it has registered.

cdef enum FunctionFlag:
    FUNCTION_NO_WRITES = 1
    FUNCTION_ALLOW_OOM = 2
    FUNCTION_ALLOW_STALE = 4
    FUNCTION_NO_CLUSTER = 8
    FUNCTION_CROSS_SLOT = 16

# What redis.register_function was given. `description.p` is NULL where there is none. The spans
# live until the host returns; the reference is the host's then, whether it takes the function or
# not.
cdef struct Registration:
    Span name
    Span description
    uint32_t flags          # FunctionFlag
    int ref

# FunctionFlag of a word, 0 where it is none
cdef uint32_t function_flag(const char *p, size_t n) noexcept nogil
# Adds redis.register_function to the table on top of the stack.
cdef void push_registering(lua_State *L) noexcept nogil
# Compiles and runs a library, which registers its functions with the host; vm.due is set before.
# 0, and vm.error, where that fails: what was registered by then is to be dropped.
cdef int load_library(Vm *vm, const char *p, size_t n) noexcept nogil
# As run_script, of a registered function: it gets two tables, and its name stands in errors.
cdef int run_function(Vm *vm, int ref, const char *name, Span *keys, int nkeys, Span *args,
                      int nargs, Reply *out) noexcept nogil
