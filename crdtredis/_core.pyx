# The CRDT kernel, one extension of several parts. Each part is core/<part>.pxi with its contract in
# core/<part>.pxd, and uses those before it only (tests/test_parts.py); read them in this order:
#
#     slab            small blocks of memory
#     pages           freed memory goes back to the system
#     mem             counted allocation
#     hash            SipHash-1-3 and CRC-32C
#     table           the element table
#     wire            protobuf's wire format
#     vector          version vectors, shared page by page
#     actors          actors, their order, what each has observed
#     exact           sums without rounding
#     codec           ops as bytes
#     compact         the effects of an op in a shorter form
#     cell            the cell: writes and counter entries
#     hyperloglog     strings that are HyperLogLogs
#     shown           what a counter or a score shows
#     position        where a list element stands
#     block           list elements, packed
#     sealed          entries of streams, many in one block
#     order           ranks of sorted set members and list elements
#     kernel          the state: the structs that the parts share
#     element         a key or a member in memory, and its encodings
#     fields          deadlines of hash fields
#     collection      what lies under a key beside a string; the types
#     entries         entries of streams by id, alone or in blocks
#     streams         entries of streams, by id and by arrival
#     groups          consumer groups of streams
#     group_views     ... as clients see them
#     deadline        deadlines, and the heap of those to come
#     keyspace        databases and keys: look-up, visibility, memory
#     home            keys that stay at home; how commands look keys up
#     walk            the one walk over what lies under a key
#     watch           watched keys
#     notices         keys that effects touched, for keyspace notifications
#     buckets         parts of the keyspace that replicas compare
#     mirror          what a mirror lacks
#     conflict        concurrent writes that had to be decided
#     origins         where writes come from
#     delay           how late the writes of other replicas become visible
#     list            the elements of a list and what effects do to them
#     patches         strings that are changed in place
#     soundness       does an effect mean something?
#     apply           what an effect does to the state
#     group_apply     ... to consumer groups
#     record          records of the log
#     outbox          finished ops, until they are logged and sent
#     op              the op that is being made
#     group_copy      consumer groups as they are elsewhere
#     produced        idempotent ids of streams
#     sizes           how large an op may become
#     pending         the causal buffer: ops that may not be applied yet
#     effects         making effects (local commands)
#     group_effects   ... of consumer groups
#     sweep           letting go of what has run out in streams
#     receive         taking ops in
#     tombstones      letting go of tombstones nobody needs
#     fold            forgetting patches of strings
#     digest          the digest of the state
#     check           every invariant
#     batch           Batches as bytes: which ops they hold, and cutting them
#     state           the state as bytes
#     give            walking through it while it changes
#     join            joining it with what is here
#     take            taking it in
#     segment_writer  the segment file that is appended to
#     replica         the Replica, as Python sees it
#     compare         the keys in which replicas differ
#     stream          the state given out and taken in, as Python sees it
#     probe           the test door: small Python classes over parts that nothing else shows

include "core/slab.pxi"
include "core/pages.pxi"
include "core/mem.pxi"
include "core/hash.pxi"
include "core/table.pxi"
include "core/wire.pxi"
include "core/vector.pxi"
include "core/actors.pxi"
include "core/exact.pxi"
include "core/codec.pxi"
include "core/compact.pxi"
include "core/cell.pxi"
include "core/hyperloglog.pxi"
include "core/shown.pxi"
include "core/position.pxi"
include "core/block.pxi"
include "core/sealed.pxi"
include "core/order.pxi"
include "core/element.pxi"
include "core/fields.pxi"
include "core/collection.pxi"
include "core/packed.pxi"
include "core/entries.pxi"
include "core/streams.pxi"
include "core/groups.pxi"
include "core/group_views.pxi"
include "core/deadline.pxi"
include "core/keyspace.pxi"
include "core/home.pxi"
include "core/walk.pxi"
include "core/watch.pxi"
include "core/notices.pxi"
include "core/buckets.pxi"
include "core/mirror.pxi"
include "core/conflict.pxi"
include "core/origins.pxi"
include "core/delay.pxi"
include "core/list.pxi"
include "core/patches.pxi"
include "core/soundness.pxi"
include "core/apply.pxi"
include "core/group_apply.pxi"
include "core/record.pxi"
include "core/outbox.pxi"
include "core/op.pxi"
include "core/group_copy.pxi"
include "core/produced.pxi"
include "core/sizes.pxi"
include "core/pending.pxi"
include "core/effects.pxi"
include "core/group_effects.pxi"
include "core/sweep.pxi"
include "core/evict.pxi"
include "core/receive.pxi"
include "core/tombstones.pxi"
include "core/fold.pxi"
include "core/digest.pxi"
include "core/check.pxi"
include "core/batch.pxi"
include "core/state.pxi"
include "core/give.pxi"
include "core/join.pxi"
include "core/take.pxi"
include "core/segment_writer.pxi"
include "core/replica.pxi"
include "core/compare.pxi"
include "core/stream.pxi"
include "core/probe.pxi"
