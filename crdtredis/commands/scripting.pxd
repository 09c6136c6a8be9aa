# What scripts and functions have in common.

from libc.stdint cimport int64_t, uint32_t

from crdtredis._engine cimport Call, Dispatch
from crdtredis._lua cimport Host, Vm

# What the whole run is refused for, where its flags are declared; else the flags of the run. 0: it
# was refused.
cdef int may_run_flagged(Call *c, int no_writes, int allow_oom, int read_only,
                         uint32_t *flags) noexcept nogil
# The reply to what script_kill said.
cdef void reply_kill(Call *c, int done) noexcept nogil
# A VM for this host, with a random sequence of its own; what it notes goes to the log.
cdef Vm *new_vm(Dispatch *d, Host *host) except NULL
# How many of the arguments are keys: argv[2]. 0: it was refused, with `no_number` where it is none.
cdef int read_key_count(Call *c, const char *no_number, int64_t *n) noexcept nogil
