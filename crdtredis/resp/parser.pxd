# Incremental request parser over one growing buffer: bytes are looked at once, however they arrive.

cdef enum ParseStatus:
    PARSE_MORE = 0          # give it more bytes
    PARSE_READY = 1         # argv[0..argc) is a command; argc may be 0 (an empty line or *0): nothing to do
    PARSE_ERROR = -1        # `error` says why; the connection must be closed after the error is sent

cdef struct Parser:
    # what was received: [start, in.n) is not yet consumed
    Buffer buf
    size_t start
    # the command under construction; argv spans point into buf and live until the next parser_room or parser_next
    Span *argv
    int argc
    int argv_cap
    size_t *offsets         # argv as offsets into buf, while buf may still move
    long long multibulk     # arguments still to come, 0 between commands
    long long bulk          # length of the bulk string under way, -1 if its header is not yet read
    size_t scanned          # where the search for the next CRLF goes on
    # limits
    long long max_bulk      # proto-max-bulk-len, bytes
    int authenticated       # unauthenticated clients are held to 10 arguments of 16 KiB, as in Redis
    const char *error       # static text without the leading '-', e.g. "ERR Protocol error: invalid bulk length"
    char error_text[64]     # where a text with a variable part is made

cdef void parser_init(Parser *p, long long max_bulk) noexcept nogil
cdef void parser_free(Parser *p) noexcept nogil
# Room to read into: at least 16 KiB, or what a large bulk string still lacks (so a 512 MB argument costs linear time and one
# buffer of its size). Moves or shrinks the buffer: spans of the last command are dead after it.
cdef char *parser_room(Parser *p, size_t *room) noexcept nogil
cdef void parser_fed(Parser *p, size_t n) noexcept nogil
cdef int parser_next(Parser *p) noexcept nogil
# Bytes held by the buffer and the argument arrays.
cdef size_t parser_memory(Parser *p) noexcept nogil
