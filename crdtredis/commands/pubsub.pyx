"""SUBSCRIBE, PUBLISH and PUBSUB. Who listens to what is kept in engine/pubsub.pxi.

A message goes to whoever listens at this replica at once, and to the other replicas behind the ops
that this one had made:

    A: SET k v; PUBLISH ch k     C, subscribed to ch:  message k; GET k -> v

PUBLISH answers with the number of receivers here. A message is not stored: who is not connected,
at the moment or to a replica that is reached, does not get it. There are no shards here, so
SPUBLISH is a PUBLISH with channels of its own and without patterns.
"""
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen

from crdtredis._engine cimport (CLIENT_REPLY_OFF, CLIENT_REPLY_SKIP, TOPIC_CHANNEL, TOPIC_PATTERN,
                                TOPIC_SHARD, Call, Client, Dispatch, Shared, Subscription, Topic,
                                caller_of, let_go, may_subscribe, native, next_subscription,
                                publish, push_to, refuse, send_abroad, shared_begin, shared_of,
                                subscribe, subscribers_of, topic_name, unsubscribe)
from crdtredis._resp cimport (Reply, reply_array, reply_bulk, reply_int, reply_null, reply_push)
from crdtredis.buffer cimport Span, span
from crdtredis.errors cimport PUBSUB_ARITY
from crdtredis.glob cimport GLOB_STEPS, glob_match

from crdtredis.commands.table import KeyRange, command
from crdtredis.commands.usage import container


# ---- subscribing ---------------------------------------------------------------------------------

cdef inline const char *word_of(int kind, int begins) noexcept nogil:
    if kind == TOPIC_PATTERN:
        return "psubscribe" if begins else "punsubscribe"
    if kind == TOPIC_SHARD:
        return "ssubscribe" if begins else "sunsubscribe"
    return "subscribe" if begins else "unsubscribe"


cdef void write_confirmation(Client *client, Reply *r, int kind, int begins,
                             const Span *name) noexcept nogil:
    cdef const char *word = word_of(kind, begins)
    cdef uint32_t n = (client.subscribed[<int>TOPIC_SHARD] if kind == TOPIC_SHARD
                       else client.subscribed[<int>TOPIC_CHANNEL]
                       + client.subscribed[<int>TOPIC_PATTERN])
    reply_push(r, 3)
    reply_bulk(r, word, strlen(word))
    if name != NULL:
        reply_bulk(r, name.p, name.n)
    else:
        reply_null(r)
    reply_int(r, n)


cdef void confirm(Call *c, int kind, int begins, const Span *name) noexcept nogil:
    """One reply for each name. It comes although replies are off: as a message then."""
    cdef Reply r
    cdef Shared *m
    if not c.client.flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP):
        write_confirmation(c.client, c.reply, kind, begins, name)
        return
    shared_begin(&r, c.reply.resp, 64 + (name.n if name != NULL else 0))
    write_confirmation(c.client, &r, kind, begins, name)
    m = shared_of(&r.buf)
    push_to(c.dispatch, c.client, m, 0)
    let_go(m)


cdef void begin(Call *c, int kind) noexcept nogil:
    cdef int i
    if not may_subscribe(c, c.argv + 1, c.argc - 1):
        return
    for i in range(1, c.argc):
        subscribe(c.dispatch, c.client, kind, c.argv[i])
        confirm(c, kind, 1, c.argv + i)


cdef void end(Call *c, int kind) noexcept nogil:
    cdef Subscription *s = next_subscription(c.client, kind, NULL) if c.argc == 1 else NULL
    cdef Subscription *after
    cdef int i
    if c.argc == 1 and s == NULL:
        confirm(c, kind, 0, NULL)
    for i in range(1, c.argc):
        unsubscribe(c.dispatch, c.client, kind, c.argv[i])
        confirm(c, kind, 0, c.argv + i)
    while s != NULL:
        after = next_subscription(c.client, kind, s)
        end_one(c, kind, s)
        s = after


cdef void end_one(Call *c, int kind, Subscription *s) noexcept nogil:
    """Its topic may go with it, and its name with that: so it is named before it has ended."""
    cdef Span name = topic_name(s.topic)
    cdef uint32_t *counted = &c.client.subscribed[kind]
    counted[0] -= 1
    confirm(c, kind, 0, &name)
    counted[0] += 1
    unsubscribe(c.dispatch, c.client, kind, name)


cdef void subscribe_(Call *c) noexcept nogil:
    begin(c, TOPIC_CHANNEL)


cdef void unsubscribe_(Call *c) noexcept nogil:
    end(c, TOPIC_CHANNEL)


cdef void psubscribe(Call *c) noexcept nogil:
    begin(c, TOPIC_PATTERN)


cdef void punsubscribe(Call *c) noexcept nogil:
    end(c, TOPIC_PATTERN)


cdef void ssubscribe(Call *c) noexcept nogil:
    begin(c, TOPIC_SHARD)


cdef void sunsubscribe(Call *c) noexcept nogil:
    end(c, TOPIC_SHARD)


# ---- publishing ----------------------------------------------------------------------------------

cdef void publish_to(Call *c, int kind) noexcept nogil:
    reply_int(c.reply, publish(c.dispatch, caller_of(c.dispatch, c.client), kind, c.argv[1],
                               c.argv[2]))
    send_abroad(c.dispatch, kind, c.argv[1], c.argv[2])


cdef void publish_(Call *c) noexcept nogil:
    publish_to(c, TOPIC_CHANNEL)


cdef void spublish(Call *c) noexcept nogil:
    publish_to(c, TOPIC_SHARD)


# ---- PUBSUB --------------------------------------------------------------------------------------

cdef void channels(Call *c, int kind) noexcept nogil:
    cdef Dispatch *d = c.dispatch
    cdef Span pattern = c.argv[2] if c.argc > 2 else span("*", 1)
    cdef char text[256]
    cdef char word[129]
    cdef Topic *t
    cdef uint32_t i
    cdef int64_t n = 0
    cdef int64_t left
    cdef int writing
    if c.argc > 3:
        memcpy(word, c.argv[1].p, c.argv[1].n)          # a subcommand's name, so short
        word[c.argv[1].n] = 0
        snprintf(text, sizeof(text), PUBSUB_ARITY, word)
        refuse(c, text)
        return
    for writing in range(2):
        if writing:
            reply_array(c.reply, n)
        left = GLOB_STEPS                               # so both find the same
        for i in range(d.pubsub.topic_mask + 1 if d.pubsub.topic_n else 0):
            t = d.pubsub.topics[i]
            while t != NULL:
                if (t.kind == <uint32_t>kind
                    and (c.argc == 2 or glob_match(pattern.p, pattern.n, topic_name(t).p, t.n,
                                                   0, &left))):
                    n += 1
                    if writing:
                        reply_bulk(c.reply, topic_name(t).p, t.n)
                t = t.next


cdef void numbers(Call *c, int kind) noexcept nogil:
    cdef int i
    reply_array(c.reply, 2 * (c.argc - 2))
    for i in range(2, c.argc):
        reply_bulk(c.reply, c.argv[i].p, c.argv[i].n)
        reply_int(c.reply, subscribers_of(c.dispatch, kind, c.argv[i]))


cdef void pubsub_channels(Call *c) noexcept nogil:
    channels(c, TOPIC_CHANNEL)


cdef void pubsub_shardchannels(Call *c) noexcept nogil:
    channels(c, TOPIC_SHARD)


cdef void pubsub_numsub(Call *c) noexcept nogil:
    numbers(c, TOPIC_CHANNEL)


cdef void pubsub_shardnumsub(Call *c) noexcept nogil:
    numbers(c, TOPIC_SHARD)


cdef void pubsub_numpat(Call *c) noexcept nogil:
    reply_int(c.reply, c.dispatch.pubsub.counts[<int>TOPIC_PATTERN])


# ---- registration --------------------------------------------------------------------------------
SUBSCRIBER = "pubsub noscript loading stale subscribed"

command("SUBSCRIBE channel...", arity=-2, flags=SUBSCRIBER, group="pubsub", since="2.0.0",
        complexity="O(N) with N channels",
        summary="Listens for messages published to channels.")(native(subscribe_))
command("UNSUBSCRIBE [channel]...", arity=-1, flags=SUBSCRIBER, group="pubsub", since="2.0.0",
        complexity="O(N) with N channels",
        summary="Stops listening to channels, or to all.")(native(unsubscribe_))
command("PSUBSCRIBE pattern...", arity=-2, flags=SUBSCRIBER, group="pubsub", since="2.0.0",
        complexity="O(N) with N patterns",
        summary="Listens for messages published to channels that match "
                "patterns.")(native(psubscribe))
command("PUNSUBSCRIBE [pattern]...", arity=-1, flags=SUBSCRIBER, group="pubsub", since="2.0.0",
        complexity="O(N) with N patterns",
        summary="Stops listening to channels that match patterns, or any "
                "pattern.")(native(punsubscribe))
command("SSUBSCRIBE shardchannel...", arity=-2, flags=SUBSCRIBER,
        keys=[KeyRange("not_key", 1, -1)], group="pubsub", since="7.0.0",
        complexity="O(N) with N shard channels",
        summary="Listens for messages published to shard channels.")(native(ssubscribe))
command("SUNSUBSCRIBE [shardchannel]...", arity=-1,
        flags=f"{SUBSCRIBER} no_mandatory_keys", keys=[KeyRange("not_key", 1, -1)],
        group="pubsub", since="7.0.0", complexity="O(N) with N shard channels",
        summary="Stops listening to shard channels, or to all.")(native(sunsubscribe))

REACHES = ("Reaches subscribers at every replica at most once, in order per publisher's replica, "
           "and never before the writes its replica had made.")
command("PUBLISH channel message", arity=3, flags="pubsub loading stale fast may_replicate",
        group="pubsub", since="2.0.0",
        complexity="O(N+M) with N clients subscribed to the channel and M patterns of any client",
        summary="Sends a message to a channel; answers how many receive it at this replica.",
        replicas=REACHES)(native(publish_))
command("SPUBLISH shardchannel message", arity=3, flags="pubsub loading stale fast may_replicate",
        keys=[KeyRange("not_key", 1)], group="pubsub", since="7.0.0",
        complexity="O(N) with N clients subscribed to the channel",
        summary="Sends a message to a shard channel; answers how many receive it at this replica.",
        replicas=REACHES)(native(spublish))

container("PUBSUB", "pubsub", "2.8.0", "Tells who listens to what at this replica.",
          help_since="6.2.0")
for _synopsis, _arity, _since, _complexity, _summary, _handler in (
        ("CHANNELS [pattern]", -2, "2.8.0", "O(N) with N channels",
         "The channels that somebody listens to.", native(pubsub_channels)),
        ("NUMPAT", 2, "2.8.0", "O(1)", "How many patterns clients listen to.",
         native(pubsub_numpat)),
        ("NUMSUB [channel]...", -2, "2.8.0", "O(N) with N channels asked for",
         "How many clients listen to each channel.", native(pubsub_numsub)),
        ("SHARDCHANNELS [pattern]", -2, "7.0.0", "O(N) with N shard channels",
         "The shard channels that somebody listens to.", native(pubsub_shardchannels)),
        ("SHARDNUMSUB [shardchannel]...", -2, "7.0.0", "O(N) with N shard channels asked for",
         "How many clients listen to each shard channel.", native(pubsub_shardnumsub))):
    command(f"PUBSUB|{_synopsis}", arity=_arity, flags="pubsub loading stale", group="pubsub",
            since=_since, complexity=_complexity, summary=_summary)(_handler)
