# The Executor: the command table of one replica, its settings, its statistics.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis._core cimport Replica

cdef class Native:
    """Carries a NativeHandler through Python to the registration: command("GET", ...)(native(get)).
    """
    cdef NativeHandler f
    cdef ReadsOnly reads_only

cdef Native native(NativeHandler f, ReadsOnly reads_only=*)

cdef class Executor:
    cdef object __weakref__
    cdef Dispatch d
    cdef readonly Replica replica
    cdef public object server
    cdef readonly Account default_account
    cdef readonly object users          # acl.Users: who may log in, and what each may do
    cdef list handlers                  # keeps the callables of Python commands alive
    cdef readonly dict specs            # name -> table.Spec
    cdef readonly Deferred deferred     # replies that Python commands owe
    cdef public object scripts          # owns Dispatch.scripting.cache; None before the first
    cdef public object functions        # owns Dispatch.scripting.functions, likewise
    cdef public object pending          # exception of a signal handler, for the loop to raise

    cdef build_table(self)
    cdef list hottest(self, int metric, double unit)
    cdef set_guard(self, uint32_t bit, bint on)

# Puts what was refused users into ACL LOG: ten times a second, and before their clients go.
cdef void tell_denials(Dispatch *d) noexcept nogil
