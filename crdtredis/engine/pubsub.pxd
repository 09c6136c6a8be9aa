# Publish and subscribe: who listens to which channel, and messages on their way to them.

from libc.stdint cimport int64_t, uint32_t

from crdtredis._resp cimport Reply
from crdtredis.buffer cimport Buffer, Span

cdef enum:
    TOPIC_MOST = 64 << 10               # bytes of a channel's or pattern's name
    SUBSCRIPTIONS_MOST = 1 << 20        # PubSub.most_each
    PUBSUB_MOST = 1 << 30               # PubSub.most

# What somebody has subscribed to. The name follows.
cdef struct Topic:
    Topic *next             # in its chain
    Topic *prev_pattern     # all patterns, the oldest first
    Topic *next_pattern
    Subscription *first     # the earliest first
    Subscription *last
    uint32_t kind           # TopicKind
    uint32_t hash
    uint32_t subscribers
    uint32_t n              # bytes of the name

# One client at one topic.
cdef struct Subscription:
    Client *client
    Topic *topic
    Subscription *prev      # of the topic
    Subscription *next
    Subscription *before    # of the client
    Subscription *after
    Subscription *next_pair # in its chain of PubSub.pairs

cdef Span topic_name(const Topic *t) noexcept nogil
# 1 where the client may subscribe to n more topics of these names; else it has been refused.
cdef int may_subscribe(Call *c, const Span *names, int n) noexcept nogil
# Subscribes; what the client was subscribed to already stays as it is.
cdef void subscribe(Dispatch *d, Client *client, int kind, Span name) noexcept nogil
cdef void unsubscribe(Dispatch *d, Client *client, int kind, Span name) noexcept nogil
# From everything, without a word.
cdef void unsubscribe_all(Dispatch *d, Client *client) noexcept nogil
# Of the client; `after` the one it gave last, NULL: the first. NULL: no more.
cdef Subscription *next_subscription(Client *client, int kind, Subscription *after) noexcept nogil
cdef uint32_t subscribers_of(Dispatch *d, int kind, Span name) noexcept nogil
# Sends a message to whoever listens; returns how many times it was sent. caller: whose command it
# is, and who gets it behind the reply to that, if at all; NULL: nobody's.
cdef int64_t publish(Dispatch *d, Client *caller, int kind, Span channel,
                     Span message) noexcept nogil
# late: behind the reply to the command that it runs.
cdef void push_to(Dispatch *d, Client *client, Shared *message, int late) noexcept nogil
# What is to become a Shared is written as a reply of about `room` bytes; shared_of takes its
# buffer, and its caller is the first holder.
cdef void shared_begin(Reply *r, int resp, size_t room) noexcept nogil
cdef Shared *shared_of(Buffer *b) noexcept nogil
cdef void let_go(Shared *m) noexcept nogil                  # by one of its holders; NULL: nothing
cdef void drop_pushes(Client *client) noexcept nogil
