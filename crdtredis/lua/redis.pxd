# The table `redis` of scripts.

cdef void push_redis(lua_State *L) noexcept nogil
# Adds redis.log and what goes with it to the table on top of the stack.
cdef void push_log(lua_State *L) noexcept nogil
# 40 lower-case hexadecimal digits and a NUL
cdef void sha1_hex(const char *p, size_t n, char *out) noexcept nogil
