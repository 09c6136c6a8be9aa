# The op that is being made. See core/op.pxi.

cdef enum Refused:
    REFUSED_LARGE = 1       # the op would be too large
    REFUSED_UNSOUND = 2     # an effect would be one that no replica accepts: see core/effects.pxi
    REFUSED_JOINING = 3     # another replica's state is being joined

# Every command that may change anything runs between these two; they nest (EXEC around commands).
# The op is made at its first effect. A command that makes more than one effect asks before the
# first whether they fit (core/sizes.pxd).
cdef void op_begin(Kernel *k) noexcept nogil
# 1 when an op was finished by this call
cdef int op_end(Kernel *k) noexcept nogil
