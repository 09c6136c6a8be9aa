# The interpreter's lock between the loop and Python's other threads. Times: steady, in ns.

from libc.stdint cimport int64_t, uint64_t

cdef struct Gil:
    int in_loop             # a loop runs; else whoever calls holds the lock
    int held
    int state               # of PyGILState_Ensure, while held
    int64_t share           # ns; longer than Python's switch interval
    int64_t since           # when it was taken last
    int64_t dropped         # ... let go
    int64_t rested          # ... free for so long that others could take it
    uint64_t handed         # how often it was held for a share and then let go

# A loop begins to run, which holds the GIL no longer. `switch_interval`: in seconds.
cdef void gil_begin(Gil *g, double switch_interval) noexcept nogil
# Until the loop lets it go; without a loop it is held anyway.
cdef void take_gil(Gil *g) noexcept nogil
# Where the loop is about to wait.
cdef void drop_gil(Gil *g) noexcept nogil
# Where the loop goes on and may take it again at once.
cdef void share_gil(Gil *g) noexcept nogil
