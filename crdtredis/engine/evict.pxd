# Room at max_memory: before commands that may use more, and in every iteration.

from libc.stddef cimport size_t

# Before a command that may use memory, where there is a limit (GUARD_OOM): makes room as the policy
# says. 0: there is none, and the command is refused.
cdef int has_room(Dispatch *d) noexcept nogil
# Is memory at its limit, and nothing can be done about it?
cdef int is_full(Dispatch *d) noexcept nogil
# What is due of eviction in this iteration.
cdef void evict_due(Dispatch *d) noexcept nogil
# Ops of peers have been applied: so much memory was in use before.
cdef void note_foreign(Dispatch *d, size_t before) noexcept nogil
# The limit, or the policy, or how many share in eviction, has changed. before: the limit it was.
cdef void limit_changed(Dispatch *d, size_t before) noexcept nogil
