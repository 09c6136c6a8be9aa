# A script's run, as the engine sees it: the commands it calls, and who may end it. Knows no Lua.

from libc.stdint cimport int64_t, uint32_t

from crdtredis.buffer cimport Span

cdef enum ScriptFlag:
    SCRIPT_READ_ONLY = 1    # it may call no command that writes
    SCRIPT_ALLOW_OOM = 2    # ... and those that take memory when there is none left
    SCRIPT_FUNCTION = 4     # it is a function

cdef struct ScriptRun:
    Dispatch *dispatch
    Client *caller
    Span *argv              # what the caller called
    int argc
    int64_t begun           # `steady` when it began
    Client *client          # whom its commands see: Scripting.client
    uint32_t flags          # ScriptFlag
    int out_of_memory       # when it began
    int wrote               # it has called a command that writes
    int killed              # it is to end
    int busy                # other clients are told of it
    int64_t slow_at         # `steady` from which on it is slow; INT64_MAX: never

cdef void scripting_free(Dispatch *d) noexcept nogil      # what the Executor owns of it
# One op begins, or a part of the one of EXEC.
cdef void script_begin(Call *c, ScriptRun *run, uint32_t flags) noexcept nogil
# Runs a command for it, or refuses. *reply is in the dialect `resp`, until the next call.
cdef void script_call(ScriptRun *run, Span *argv, int argc, int resp, Span *reply) noexcept nogil
cdef void script_end(ScriptRun *run) noexcept nogil
# To be called every ms, where now is `steady`. Once the script has run for busy_ms it serves other
# clients, who are told that it runs. 1: the script is to end.
cdef int script_tick(ScriptRun *run, int64_t now) noexcept nogil
# May the user run this? -1: there is no such command.
cdef int script_allowed(Dispatch *d, Span *argv, int argc) noexcept nogil
# SCRIPT KILL, or FUNCTION KILL. 1: it will end; 0: none runs; -1: it has written; -2: what runs is
# of the other kind.
cdef int script_kill(Dispatch *d, int function) noexcept nogil
