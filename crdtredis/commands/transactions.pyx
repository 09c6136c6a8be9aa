# MULTI, EXEC, DISCARD, WATCH, UNWATCH. The work is done in engine/watched.pxi and transaction.pxi;
# here are the rules of when it may be asked for.
#
# A transaction is one op: every replica applies all of its effects at once or none yet. WATCH
# guards against what this replica knows, which includes ops from peers as they arrive; a write that
# a peer makes concurrently and that arrives after EXEC is not seen by it, so optimistic locking is
# local to a replica.

from crdtredis._engine cimport (CLIENT_IN_EXEC, CLIENT_MULTI, Call, drop_transaction, exec_queued,
                                native, refuse, unwatch_all, watch_key_for)
from crdtredis._resp cimport reply_ok
from crdtredis.errors cimport DISCARD_WITHOUT_MULTI, NESTED_MULTI, WATCH_IN_MULTI

from crdtredis.commands.table import command

FLAGS = "noscript loading stale fast allow_busy no_queue"


cdef void multi(Call *c) noexcept nogil:
    if c.client.flags & CLIENT_MULTI:
        refuse(c, NESTED_MULTI)
        return
    c.client.flags |= CLIENT_MULTI
    reply_ok(c.reply)


cdef void exec_(Call *c) noexcept nogil:
    exec_queued(c)


cdef void discard(Call *c) noexcept nogil:
    if not c.client.flags & CLIENT_MULTI:
        refuse(c, DISCARD_WITHOUT_MULTI)
        return
    drop_transaction(c.dispatch, c.client)
    reply_ok(c.reply)


cdef void watch(Call *c) noexcept nogil:
    cdef int i
    if c.client.flags & CLIENT_MULTI:
        refuse(c, WATCH_IN_MULTI)
        return
    for i in range(1, c.argc):
        watch_key_for(c.dispatch, c.client, c.argv[i])
    reply_ok(c.reply)


cdef void unwatch(Call *c) noexcept nogil:
    if not c.client.flags & CLIENT_IN_EXEC:     # EXEC has let go of them already
        unwatch_all(c.dispatch, c.client)
    reply_ok(c.reply)


command("MULTI", arity=1, flags=FLAGS, group="transactions", since="1.2.0",
        summary="Starts a transaction: commands are queued until EXEC.",
        replicas="The effects of the transaction are one op: every replica applies all of them "
                 "at once or none yet.")(native(multi))
command("EXEC", arity=1, flags="noscript loading stale skip_slowlog no_queue exec",
        group="transactions", since="1.2.0", complexity="Depends on commands in the transaction",
        summary="Runs the queued commands as one atomic operation.",
        replicas="One op. Each effect keeps its own rule against what other replicas did "
                 "concurrently; there is no roll-back.")(native(exec_))
command("DISCARD", arity=1, flags=FLAGS, group="transactions", since="2.0.0",
        complexity="O(N), when N is the number of queued commands",
        summary="Forgets the queued commands and the watched keys.")(native(discard))
command("WATCH key...", arity=-2, flags=FLAGS, keys=(1, -1, 1), access="RO", group="transactions",
        since="2.2.0", complexity="O(1) for every key",
        summary="Makes the next EXEC depend on these keys being unchanged.",
        replicas="Local to a replica: two replicas whose transactions watch the same key can "
                 "both succeed concurrently.")(native(watch))
command("UNWATCH", arity=1, flags="noscript loading stale fast allow_busy", group="transactions",
        since="2.2.0", summary="Forgets the watched keys.")(native(unwatch))
