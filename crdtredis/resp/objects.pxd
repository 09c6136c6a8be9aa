# Replies as Python objects.

# Appends the reply a Python command returned: None, bool, int, float, bytes (bulk), str (bulk,
# UTF-8), list or tuple, dict (map), set or frozenset, or one of the marker classes Simple, Refusal,
# Verbatim, Ordered, Push, NullArray, Raw. Any other object is a TypeError and leaves the reply as
# it was.
cdef int reply_object(Reply *r, object value) except -1
