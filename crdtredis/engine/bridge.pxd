# The only crossing between the engine thread and the sync thread: two bounded queues of byte blocks under a mutex, two eventfds.

cdef struct Block:
    Block *next
    int kind
    uint64_t token
    size_t n                # bytes, which follow the struct
