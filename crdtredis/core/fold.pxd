# Forgetting patches of strings, and mending what was forgotten too early. See core/fold.pxi.

# Folds some of the patches that all have observed, and writes anew some of the keys that are
# marked, about `most` in all; 1 while more are left.
cdef int texts_work(Kernel *k, int most) noexcept nogil
# The log has been read, or a state is joined: what a checkpoint or its giver folded is folded here.
cdef void texts_loaded(Kernel *k) noexcept nogil
# Marked keys are not waited with.
cdef void texts_mend(Kernel *k, int most) noexcept nogil
