# Small collections that nobody has looked at for a while. See core/packed.pxi.

cdef enum:
    PACKED_MEMBERS = 64     # at most, or elements of a list,
    PACKED_BYTES = 1024     # and bytes
    PACK_KEPT = 1 << 16     # collections that were opened last stay as they are for PACK_AFTER,
    PACK_AFTER = 500        # ms
    PACK_MOST = 1 << 20     # that are remembered
    PACK_FEW = 1 << 10      # those that were opened last, where memory is lacking

# For whoever comes to many keys and changes none: unpacks e, and returns the bytes, for key_close.
# NULL: it was not packed.
cdef char *key_open(Kernel *k, Element *e) noexcept nogil
cdef void key_close(Element *e, char *p) noexcept nogil
# 1 where what lies under the key is packed now
cdef int key_pack(Kernel *k, Element *e) noexcept nogil
# Packs about `most` small ones of those whose time has come, or behind which more than `kept` were
# opened; 1 while more are left.
cdef int pack_due(Kernel *k, int most, size_t kept=*) noexcept nogil
