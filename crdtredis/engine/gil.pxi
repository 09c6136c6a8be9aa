# The GIL as the loop takes it: with the first Python command or callback of an iteration, until the
# iteration's end.
#
# Python's other threads, those of replication above all, would not get it from a loop that lets go
# and takes it again at once: whoever waits is woken when it is let go, finds it taken once more and
# begins to wait anew; only one who has waited for a whole switch interval without being woken is
# given precedence. So a loop that has not left the GIL alone for a while holds it for longer than
# the switch interval, and then hands it to whoever waits. A script's ticks do the same.

from libc.stdint cimport int64_t

cdef extern from "Python.h":
    int PyGILState_Ensure() noexcept nogil
    void PyGILState_Release(int state) noexcept nogil

cdef enum:
    LEFT_ALONE = 100_000        # ns; enough for another thread to wake and take it
    SHARE_MOST = 10_000_000     # ns that the loop holds it, whatever the switch interval is


cdef void gil_begin(Gil *g, double switch_interval) noexcept nogil:
    g.in_loop = 1
    g.share = min(<int64_t>(min(switch_interval, 1.0) * 1.5e9) + 200_000, <int64_t>SHARE_MOST)
    g.dropped = g.rested = clock_ns(CLOCK_MONOTONIC)


cdef inline void take_gil(Gil *g) noexcept nogil:
    if g.in_loop and not g.held:
        g.state = PyGILState_Ensure()
        g.held = 1
        g.since = clock_ns(CLOCK_MONOTONIC)
        if g.since - g.dropped >= LEFT_ALONE:
            g.rested = g.since


cdef inline void drop_gil(Gil *g) noexcept nogil:
    if g.held:
        g.held = 0
        g.dropped = clock_ns(CLOCK_MONOTONIC)
        PyGILState_Release(g.state)


cdef inline void share_gil(Gil *g) noexcept nogil:
    cdef int64_t now
    if not g.held:
        return
    now = clock_ns(CLOCK_MONOTONIC)
    if now - g.since >= g.share:
        g.rested = now
        g.handed += 1
        drop_gil(g)
    elif now - g.rested < g.share:
        drop_gil(g)
