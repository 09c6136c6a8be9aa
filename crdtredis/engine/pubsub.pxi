# Publish and subscribe: who listens to which channel, and what becomes of a message.
#
# A topic is a channel, a pattern or a shard channel that somebody listens to; it is there as long
# as anybody does. Topics stand in chains by the hash of their names, subscriptions in chains by
# client and topic, and each subscription in the lists of its topic and of its client.
#
# A message is encoded once for each dialect that its receivers speak, and all of them hold that one
# copy (Shared). What a client is to be sent is its reply buffer with messages between: a Push says
# before which byte of the buffer its message goes out. So a message is no part of any reply: it
# comes although replies are off, and is not lost where replies are taken back. A message that a
# client's own command sends it stands behind the reply to the command:
#
#     RESP3 client, subscribed to ch:  PUBLISH ch hi   ->   :1, then the push
#
# Who does not read costs memory up to the output limit of class pubsub, which is looked at with
# each message.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memset

from crdtredis._core cimport key_hash
from crdtredis._resp cimport Reply, reply_bulk, reply_push
from crdtredis.buffer cimport (Buffer, Span, buffer_need, buffer_resize, copy_span, need_memory,
                               span)
from crdtredis.errors cimport SUBSCRIPTIONS_MEMORY, SUBSCRIPTIONS_TOO_MANY, TOPIC_TOO_LONG
from crdtredis.glob cimport GLOB_STEPS

cdef enum:
    PUBSUB_CHAINS = 64      # at least; they double when there are more


cdef inline Span topic_name(const Topic *t) noexcept nogil:
    return span(<const char*>t + sizeof(Topic), t.n)


# ---- topics --------------------------------------------------------------------------------------

cdef inline uint32_t topic_hash(Dispatch *d, int kind, Span name) noexcept nogil:
    return key_hash(d.kernel, name.p, name.n) + <uint32_t>kind


cdef Topic *topic_find(Dispatch *d, int kind, Span name, uint32_t hash) noexcept nogil:
    cdef Topic *t = NULL
    if d.pubsub.topic_n:
        t = d.pubsub.topics[hash & d.pubsub.topic_mask]
    while (t != NULL and not (t.hash == hash and t.kind == <uint32_t>kind and t.n == name.n
                              and (t.n == 0 or memcmp(topic_name(t).p, name.p, t.n) == 0))):
        t = t.next
    return t


cdef void topic_chains(PubSub *p, uint32_t n) noexcept nogil:
    """Spreads the topics over n chains, a power of two."""
    cdef Topic **old = p.topics
    cdef Topic *t
    cdef Topic *next
    cdef uint32_t i
    p.topics = <Topic**>need_memory(calloc(n, sizeof(Topic*)))
    for i in range(p.topic_mask + 1 if old != NULL else 0):
        t = old[i]
        while t != NULL:
            next = t.next
            t.next = p.topics[t.hash & (n - 1)]
            p.topics[t.hash & (n - 1)] = t
            t = next
    p.topic_mask = n - 1
    free(old)


cdef Topic *topic_of(Dispatch *d, int kind, Span name) noexcept nogil:
    """Made where there is none."""
    cdef PubSub *p = &d.pubsub
    cdef uint32_t hash = topic_hash(d, kind, name)
    cdef Topic *t = topic_find(d, kind, name, hash)
    if t != NULL:
        return t
    if p.topics == NULL:
        topic_chains(p, PUBSUB_CHAINS)
    elif p.topic_n > p.topic_mask:
        topic_chains(p, 2 * (p.topic_mask + 1))
    t = <Topic*>need_memory(malloc(sizeof(Topic) + name.n))
    memset(t, 0, sizeof(Topic))
    t.kind = <uint32_t>kind
    t.hash = hash
    t.n = <uint32_t>name.n
    copy_span(<char*>t + sizeof(Topic), name)
    t.next = p.topics[hash & p.topic_mask]
    p.topics[hash & p.topic_mask] = t
    p.topic_n += 1
    p.counts[kind] += 1
    p.bytes += sizeof(Topic) + name.n
    note_topic(d, kind, name, 1)
    if kind == TOPIC_PATTERN:
        t.prev_pattern = p.last_pattern
        if p.last_pattern != NULL:
            p.last_pattern.next_pattern = t
        else:
            p.first_pattern = t
        p.last_pattern = t
    return t


cdef void topic_free(Dispatch *d, Topic *t) noexcept nogil:
    cdef PubSub *p = &d.pubsub
    cdef Topic **at = &p.topics[t.hash & p.topic_mask]
    note_topic(d, <int>t.kind, topic_name(t), 0)
    while at[0] != t:
        at = &at[0].next
    at[0] = t.next
    if t.kind == TOPIC_PATTERN:
        if t.prev_pattern != NULL:
            t.prev_pattern.next_pattern = t.next_pattern
        else:
            p.first_pattern = t.next_pattern
        if t.next_pattern != NULL:
            t.next_pattern.prev_pattern = t.prev_pattern
        else:
            p.last_pattern = t.prev_pattern
    p.topic_n -= 1
    p.counts[t.kind] -= 1
    p.bytes -= sizeof(Topic) + t.n
    free(t)
    if p.topic_n == 0:
        free(p.topics)
        p.topics = NULL
        p.topic_mask = 0


# ---- subscriptions -------------------------------------------------------------------------------

cdef inline uint32_t pair_hash(const Client *client, const Topic *t) noexcept nogil:
    return t.hash ^ <uint32_t>((client.id * <uint64_t>0x9e3779b97f4a7c15) >> 32)


cdef void pair_chains(PubSub *p, uint32_t n) noexcept nogil:
    cdef Subscription **old = p.pairs
    cdef Subscription **at
    cdef Subscription *s
    cdef Subscription *next
    cdef uint32_t i
    p.pairs = <Subscription**>need_memory(calloc(n, sizeof(Subscription*)))
    for i in range(p.pair_mask + 1 if old != NULL else 0):
        s = old[i]
        while s != NULL:
            next = s.next_pair
            at = &p.pairs[pair_hash(s.client, s.topic) & (n - 1)]
            s.next_pair = at[0]
            at[0] = s
            s = next
    p.pair_mask = n - 1
    free(old)


cdef Subscription *pair_find(Dispatch *d, Client *client, Topic *t) noexcept nogil:
    cdef Subscription *s = NULL
    if d.pubsub.pair_n and t != NULL:
        s = d.pubsub.pairs[pair_hash(client, t) & d.pubsub.pair_mask]
    while s != NULL and not (s.client == client and s.topic == t):
        s = s.next_pair
    return s


cdef int may_subscribe(Call *c, const Span *names, int n) noexcept nogil:
    cdef Client *client = c.client
    cdef size_t bytes = c.dispatch.pubsub.bytes
    cdef int i
    for i in range(n):
        bytes += sizeof(Topic) + sizeof(Subscription) + names[i].n
        if names[i].n > TOPIC_MOST:
            refuse(c, TOPIC_TOO_LONG)
            return 0
    if (<size_t>n + client.subscribed[0] + client.subscribed[1] + client.subscribed[2]
            > c.dispatch.pubsub.most_each):
        refuse(c, SUBSCRIPTIONS_TOO_MANY)
        return 0
    if bytes > c.dispatch.pubsub.most:
        refuse(c, SUBSCRIPTIONS_MEMORY)
        return 0
    return 1


cdef void subscribe(Dispatch *d, Client *client, int kind, Span name) noexcept nogil:
    cdef PubSub *p = &d.pubsub
    cdef Topic *t = topic_of(d, kind, name)
    cdef Subscription *s = pair_find(d, client, t)
    cdef Subscription **at
    if s != NULL:
        return
    if p.pairs == NULL:
        pair_chains(p, PUBSUB_CHAINS)
    elif p.pair_n > p.pair_mask:
        pair_chains(p, 2 * (p.pair_mask + 1))
    s = <Subscription*>need_memory(calloc(1, sizeof(Subscription)))
    s.client = client
    s.topic = t
    at = &p.pairs[pair_hash(client, t) & p.pair_mask]
    s.next_pair = at[0]
    at[0] = s
    p.pair_n += 1
    p.bytes += sizeof(Subscription)
    s.prev = t.last
    if t.last != NULL:
        t.last.next = s
    else:
        t.first = s
    t.last = s
    t.subscribers += 1
    s.before = client.subscribed_last
    if s.before != NULL:
        s.before.after = s
    else:
        client.subscriptions = s
        client.flags |= CLIENT_SUBSCRIBED
        p.clients += 1
    client.subscribed_last = s
    client.subscribed[kind] += 1


cdef void end_subscription(Dispatch *d, Subscription *s) noexcept nogil:
    cdef PubSub *p = &d.pubsub
    cdef Client *client = s.client
    cdef Topic *t = s.topic
    cdef Subscription **at = &p.pairs[pair_hash(client, t) & p.pair_mask]
    while at[0] != s:
        at = &at[0].next_pair
    at[0] = s.next_pair
    p.pair_n -= 1
    p.bytes -= sizeof(Subscription)
    if s.prev != NULL:
        s.prev.next = s.next
    else:
        t.first = s.next
    if s.next != NULL:
        s.next.prev = s.prev
    else:
        t.last = s.prev
    t.subscribers -= 1
    if s.before != NULL:
        s.before.after = s.after
    else:
        client.subscriptions = s.after
    if s.after != NULL:
        s.after.before = s.before
    else:
        client.subscribed_last = s.before
    client.subscribed[t.kind] -= 1
    if client.subscriptions == NULL:
        client.flags &= ~<uint32_t>CLIENT_SUBSCRIBED
        p.clients -= 1
    free(s)
    if t.first == NULL:
        topic_free(d, t)
    if p.pair_n == 0:
        free(p.pairs)
        p.pairs = NULL
        p.pair_mask = 0


cdef void unsubscribe(Dispatch *d, Client *client, int kind, Span name) noexcept nogil:
    cdef Subscription *s = pair_find(d, client,
                                     topic_find(d, kind, name, topic_hash(d, kind, name)))
    if s != NULL:
        end_subscription(d, s)


cdef void unsubscribe_all(Dispatch *d, Client *client) noexcept nogil:
    while client.subscriptions != NULL:
        end_subscription(d, client.subscriptions)


cdef Subscription *next_subscription(Client *client, int kind, Subscription *after) noexcept nogil:
    cdef Subscription *s = client.subscriptions if after == NULL else after.after
    while s != NULL and s.topic.kind != <uint32_t>kind:
        s = s.after
    return s


cdef uint32_t subscribers_of(Dispatch *d, int kind, Span name) noexcept nogil:
    cdef Topic *t = topic_find(d, kind, name, topic_hash(d, kind, name))
    return t.subscribers if t != NULL else 0


# ---- messages ------------------------------------------------------------------------------------

cdef void shared_begin(Reply *r, int resp, size_t room) noexcept nogil:
    memset(r, 0, sizeof(Reply))
    r.resp = resp
    buffer_resize(&r.buf, sizeof(Shared) + room)
    r.buf.n = sizeof(Shared)


cdef Shared *shared_of(Buffer *b) noexcept nogil:
    cdef Shared *m = <Shared*>b.p
    m.holders = 1
    m.n = b.n - sizeof(Shared)
    return m


cdef inline void let_go(Shared *m) noexcept nogil:
    if m == NULL:
        return
    m.holders -= 1
    if m.holders == 0:
        free(m)


cdef void drop_pushes(Client *client) noexcept nogil:
    cdef Push *p = <Push*>client.pushes.p
    cdef size_t i
    for i in range(client.pushes.n // sizeof(Push)):
        let_go(p[i].message)
    client.pushes.n = 0
    client.push_bytes = 0


cdef void push_to(Dispatch *d, Client *client, Shared *message, int late) noexcept nogil:
    cdef Push *p
    if client.flags & (CLIENT_KILLED | CLIENT_CLOSE):
        return
    p = <Push*>buffer_need(&client.pushes, sizeof(Push))
    client.pushes.n += sizeof(Push)
    client.push_bytes += sizeof(Push) + message.n
    message.holders += 1
    p.message = message
    p.at = <size_t>LATE if late else client.reply.buf.n
    if late:
        client.flags |= CLIENT_PUSHED
    if client.fd >= 0:
        d.port.pushed(d.port.owner, client)


cdef Shared *encode_message(Topic *t, Span channel, Span message, int resp) noexcept nogil:
    cdef Reply r
    cdef int pattern = t.kind == TOPIC_PATTERN
    shared_begin(&r, resp, channel.n + message.n + 128 + (t.n if pattern else 0))
    reply_push(&r, 4 if pattern else 3)
    if pattern:
        reply_bulk(&r, "pmessage", 8)
        reply_bulk(&r, topic_name(t).p, t.n)
    elif t.kind == TOPIC_SHARD:
        reply_bulk(&r, "smessage", 8)
    else:
        reply_bulk(&r, "message", 7)
    reply_bulk(&r, channel.p, channel.n)
    reply_bulk(&r, message.p, message.n)
    return shared_of(&r.buf)


cdef int64_t send_to(Dispatch *d, Client *caller, Topic *t, Span channel,
                     Span message) noexcept nogil:
    """To all who subscribed to this topic."""
    cdef Shared *encoded[2]
    cdef Subscription *s = t.first
    cdef int resp3
    encoded[0] = encoded[1] = NULL
    while s != NULL:
        resp3 = s.client.reply.resp == 3
        if encoded[resp3] == NULL:
            encoded[resp3] = encode_message(t, channel, message, s.client.reply.resp)
        push_to(d, s.client, encoded[resp3], s.client == caller)
        s = s.next
    let_go(encoded[0])
    let_go(encoded[1])
    return t.subscribers


cdef int64_t publish(Dispatch *d, Client *caller, int kind, Span channel,
                     Span message) noexcept nogil:
    cdef Topic *t = NULL
    cdef int64_t receivers = 0, left = GLOB_STEPS
    if d.pubsub.counts[kind]:
        t = topic_find(d, kind, channel, topic_hash(d, kind, channel))
    if t != NULL:
        receivers += send_to(d, caller, t, channel, message)
    t = d.pubsub.first_pattern if kind == TOPIC_CHANNEL else NULL
    while t != NULL:
        if matches_one(topic_name(t), channel, &left):
            receivers += send_to(d, caller, t, channel, message)
        t = t.next_pattern
    return receivers
