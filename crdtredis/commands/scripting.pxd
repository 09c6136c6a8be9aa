# What scripts and functions have in common.

from libc.stdint cimport uint32_t

from crdtredis._engine cimport Call

# What the whole run is refused for, where its flags are declared; else the flags of the run. 0: it
# was refused.
cdef int may_run_flagged(Call *c, int no_writes, int allow_oom, int read_only,
                         uint32_t *flags) noexcept nogil
# The reply to what script_kill said.
cdef void reply_kill(Call *c, int done) noexcept nogil
cdef void host_note(void *self, int level, const char *p, size_t n) noexcept with gil
