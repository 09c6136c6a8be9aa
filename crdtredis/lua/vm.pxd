# One Lua VM: its memory, its clock, the sandbox around what it runs.

cdef enum:
    HOOK_COUNT = 200        # instructions between two looks at the clock
    STACK_MOST = 1 << 20    # bytes of C stack that a script may have below run_script
    LIBRARIES = 16
    SOURCE_MOST = 4 << 20   # bytes of a script
    SOURCE_PIECE = 4 << 10  # bytes that are compiled between two looks at the clock
    COMPILE_MS = 500        # that a script may take to compile
    REPLY_DEPTH = 4000      # nested aggregates of a reply
    WALK_STEPS = 1 << 12

cdef enum Ending:
    ENDS_NOT = 0
    ENDS_KILLED = 1

# What a script asks of its owner. Nothing of it may jump out, as an error of Lua does.
cdef struct Host:
    void *self
    # Runs a command: its reply, in the dialect of vm.resp, is *reply until the next call.
    void (*call)(void *self, Vm *vm, Span *argv, int argc, Span *reply) noexcept nogil
    # Called while a script runs, from vm.due on every ms. ENDS_KILLED ends it, whatever it catches.
    int (*tick)(void *self, int64_t now) noexcept nogil
    void (*note)(void *self, int level, const char *p, size_t n) noexcept nogil
    # May the user run this command? -1: there is no such command
    int (*allowed)(void *self, Span *argv, int argc) noexcept nogil
    # A function that a library registers: why it is refused, or NULL. Itself NULL: the VM is one
    # for scripts, which register none
    const char *(*take_function)(void *self, Registration *r) noexcept nogil

cdef struct Vm:
    lua_State *L
    Host host
    size_t used             # bytes allocated for Lua
    size_t most             # the ceiling of `used`
    size_t idle             # `used` when no script runs, after the last full collection
    size_t work             # bytes of large allocations since the hook ran
    uint32_t steps          # of C functions that walk: see walk_on
    char *stack             # C stack where run_script stands; NULL: no script runs
    int ending              # Ending
    int hurried             # the hook is to run at the next instruction
    uint64_t random         # what math.random has come to
    int64_t due             # `steady_now` from which host.tick is asked
    int counted             # the error that the last run ended in was one of a command
    # the script that runs has one line, so an error without a place is there
    int single_line
    int resp                # dialect of redis.call's replies
    int registering         # a library is being loaded: it may register functions, and call nothing
    const char *chunk       # what Lua calls the programs: "@user_script", "@user_function"
    int ref_globals         # references in the registry: the table behind _G
    int ref_load_mode       # a function: whether a library is being loaded
    int ref_array_mt
    int ref_handler
    const void *libraries[16]       # the protected tables
    int libraries_n
    Span *argv
    int argv_cap
    # the error of the last run that ended in one, whole: "ERR ... script: ..."
    char error[1024]
    size_t error_n

cdef int64_t steady_ms() noexcept nogil     # what `due` is compared with
cdef Vm *vm_new(size_t most, Host host) except NULL
cdef void vm_free(Vm *vm) noexcept nogil
# Compiles: a reference to the function, or -1 and vm.error.
cdef int load_script(Vm *vm, const char *p, size_t n, const char *name) noexcept nogil
cdef void drop_script(Vm *vm, int ref) noexcept nogil
# After some were dropped that held most of the memory: it is there again.
cdef void collect_dropped(Vm *vm) noexcept nogil
# Runs the function. The result, or its error, is appended to `out`. sha: 40 digits, for errors.
# 1: it ended well.
cdef int run_script(Vm *vm, int ref, const char *sha, Span *keys, int nkeys, Span *args, int nargs,
                    Reply *out) noexcept nogil
cdef Vm *vm_of(lua_State *L) noexcept nogil
# Raises `text` as an error of the running function, with the script's name and line before it.
cdef void raise_text(lua_State *L, const char *text) noexcept nogil
# What the hook does, for C functions that run for long: raises when the script is to end.
cdef void check_ending(lua_State *L, Vm *vm) noexcept nogil
# For walks in C: looks at the clock every WALK_STEPS calls.
cdef inline void walk_on(lua_State *L, Vm *vm) noexcept nogil:
    vm.steps += 1
    if vm.steps % WALK_STEPS == 0:
        check_ending(L, vm)
# The hook runs at the next instruction of Lua: after something that took long by itself.
cdef void hurry(lua_State *L, Vm *vm) noexcept nogil
