# Incremental request parser over one growing buffer: bytes are looked at once, however they arrive.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from crdtredis.buffer cimport Buffer, Span

cdef enum ParseStatus:
    PARSE_MORE = 0          # give it more bytes
    # argv[0..argc) is a command; argc may be 0 (an empty line or *0): nothing to do
    PARSE_READY = 1
    # `error` says why; the connection must be closed after the error is sent
    PARSE_ERROR = -1

cdef struct Parser:
    # what was received. Offsets: `start` <= `pos` <= buf.n; the command under construction begins
    # at start, its rest at pos
    Buffer buf
    size_t start
    size_t pos
    size_t scanned          # bytes from pos on that are known to hold no line end
    # the command under construction or just made; its spans point into buf and live until the next
    # parser_room or parser_next
    Span *argv
    int argc
    int argv_cap
    int64_t multibulk       # arguments still to come, 0 between commands
    int64_t bulk            # length of the bulk string under way, -1 if its header is not yet read
    # limits
    int64_t max_bulk        # proto-max-bulk-len, bytes
    int authenticated       # 0: at most 10 arguments of at most 16 KiB
    # without the leading '-', e.g. "ERR Protocol error: invalid bulk length"; NULL while all is
    # well
    const char *error
    char error_text[64]     # where a text with a variable part is made

cdef void parser_init(Parser *p, int64_t max_bulk) noexcept nogil
cdef void parser_free(Parser *p) noexcept nogil
# Room to read into: at least 8 KiB, or all that a large bulk string still lacks. May move or shrink
# the buffer: the spans of the last command are dead after it.
cdef char *parser_room(Parser *p, size_t *room) noexcept nogil
# n bytes of that room are filled
cdef void parser_fed(Parser *p, size_t n) noexcept nogil
cdef int parser_next(Parser *p) noexcept nogil
# 1 when a multibulk command, whole or not, follows the one just made: parser_next then moves
# neither the buffer nor its bytes, so the spans that the caller copied from argv stay good.
cdef int parser_follows(Parser *p) noexcept nogil
# Goes back to `at`, a former value of `start`: for a caller that parsed on over such commands
# and cannot run them now.
cdef void parser_back(Parser *p, size_t at) noexcept nogil
# Give back what large commands needed; all of it when nothing is under way. Happens by itself after
# a large command, so this is for clients that have been idle for a while. The spans of the last
# command are dead after it.
cdef void parser_trim(Parser *p) noexcept nogil
# bytes held by the buffer and the arguments
cdef size_t parser_memory(Parser *p) noexcept nogil
