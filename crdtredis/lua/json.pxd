# cjson: JSON from and to Lua values.

cdef struct Json:
    int sparse_convert      # sparse arrays become objects instead of being refused
    int sparse_ratio
    int sparse_safe
    int encode_depth
    int decode_depth
    int precision           # significant digits of numbers
    int encode_invalid      # InvalidNumbers
    int decode_invalid
    int keep_buffer         # without effect
    int array_mt            # decoded arrays get the metatable of arrays

cdef enum InvalidNumbers:
    INVALID_REFUSED = 0
    INVALID_KEPT = 1
    INVALID_NULL = 2

# Pushes a new module with settings of its own.
cdef void push_json(lua_State *L) noexcept nogil
