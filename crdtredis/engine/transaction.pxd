# EXEC, for commands/transactions.pyx.

# The queued commands as one op, or a refusal: their effects are applied, logged and sent together.
cdef void exec_queued(Call *c) noexcept nogil
