# cython: language_level=3
"""Sorted set commands that combine several: ZUNION, ZINTER, ZDIFF, their STORE forms, ZINTERCARD.

A source is a sorted set, or a set, whose members count as having the score 1. All sources are
looked up before anything is refused or done.

Scores are added up as doubles, so the order of the sources shows in the last digit. It is Redis's:
the smaller source first, and of equal ones the one that was named first. What is not a number
becomes 0.

The result gathers in a Buffer of Scored, whose Elements belong to the sources: no name is copied
before a STORE form writes. The union lists all members of all sources, brings equal names together
by sorting (by hash first, so names are rarely compared), and adds up each run; the result is sorted
by score and name either way. The intersection looks each member of the smallest source up in the
others, the difference each member of the first.
"""
from libc.math cimport isnan
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memset

from crdtredis._core cimport (T_SET, T_ZSET, Collection, Element, Kernel, element_key, element_klen,
                              member_score, score_sort_key, table_find)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_syntax
from crdtredis._resp cimport parse_double, reply_int
from crdtredis.buffer cimport Buffer, buffer_add, buffer_free
from crdtredis.commands.common cimport REFUSED, read_int, refuse_named
from crdtredis.commands.members cimport member_live, next_member, read_any, reply_members_header
from crdtredis.commands.scored cimport Scored, reply_scored, store_scored
from crdtredis.errors cimport LIMIT_NEGATIVE, NO_INPUT_KEY, WEIGHT_NOT_FLOAT
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import CountedKeys, KeyRange, command

cdef enum Combining:
    INTERSECTION
    UNION
    DIFFERENCE

cdef enum Aggregate:
    SUM
    MIN
    MAX

cdef struct Source:
    Collection *c           # NULL: no such key
    double weight
    uint32_t place          # among the keys as named

# A command as read: what to combine, and how.
cdef struct Plan:
    Combining how
    Aggregate aggregate
    int with_scores
    int64_t limit           # ZINTERCARD: 0 for none
    Buffer sources          # of Source
    size_t n

# A member of one source, on the way into the union.
cdef struct Part:
    Element *m
    double score
    size_t place            # of the source, in the order of adding up


# ---- sources -------------------------------------------------------------------------------------
cdef inline size_t source_size(const Source *s) noexcept nogil:
    return s.c.live if s.c != NULL else 0


cdef int smaller_first(const void *a, const void *b) noexcept nogil:
    cdef const Source *x = <const Source*>a
    cdef const Source *y = <const Source*>b
    cdef size_t n = source_size(x), m = source_size(y)
    return (n > m) - (n < m) if n != m else (x.place > y.place) - (x.place < y.place)


cdef inline double source_score(Kernel *k, const Source *s, Element *m) noexcept nogil:
    """With its weight; not a number, where that is 0 and the score infinite."""
    return s.weight * (member_score(k, m) if s.c.type == T_ZSET else 1)


cdef inline double number(double v) noexcept nogil:
    return 0 if isnan(v) else v


cdef inline Element *source_find(const Source *s, Element *m) noexcept nogil:
    """The source's own member of the same name as m."""
    if s.c == NULL:
        return NULL
    m = table_find(&s.c.table, element_key(m), element_klen(m), m.hash)
    return m if m != NULL and member_live(m) else NULL


# ---- reading the command -------------------------------------------------------------------------
cdef int read_sources(Call *c, int first, int64_t n, Plan *p) noexcept nogil:
    """Looks up the keys argv[first] to argv[first + n - 1]; 0 after a refusal. The caller frees
    p.sources."""
    cdef Source s
    cdef int64_t i
    p.n = n
    for i in range(n):
        s.place = i
        s.weight = 1
        if read_any(c, c.argv[first + i], 1 << T_ZSET | 1 << T_SET, &s.c) == REFUSED:
            return 0
        buffer_add(&p.sources, &s, sizeof(s))
    return 1


cdef int read_options(Call *c, int i, int counting, int storing, Plan *p) noexcept nogil:
    """The options from argv[i] on; 0 after a refusal."""
    cdef Source *sources = <Source*>p.sources.p
    cdef int weighted = p.how != DIFFERENCE and not counting
    cdef size_t j
    while i < c.argc:
        if weighted and is_word(c.argv[i], "WEIGHTS") and c.argc - i > <int>p.n:
            for j in range(p.n):
                i += 1
                if not parse_double(c.argv[i].p, c.argv[i].n, &sources[j].weight):
                    refuse(c, WEIGHT_NOT_FLOAT)
                    return 0
        elif weighted and is_word(c.argv[i], "AGGREGATE") and i + 1 < c.argc:
            i += 1
            if is_word(c.argv[i], "SUM"):
                p.aggregate = SUM
            elif is_word(c.argv[i], "MIN"):
                p.aggregate = MIN
            elif is_word(c.argv[i], "MAX"):
                p.aggregate = MAX
            else:
                refuse_syntax(c)
                return 0
        elif not storing and not counting and is_word(c.argv[i], "WITHSCORES"):
            p.with_scores = 1
        elif counting and is_word(c.argv[i], "LIMIT") and i + 1 < c.argc:
            i += 1
            if not parse_int64(c.argv[i].p, c.argv[i].n, &p.limit) or p.limit < 0:
                refuse(c, LIMIT_NEGATIVE)
                return 0
        else:
            refuse_syntax(c)
            return 0
        i += 1
    return 1


cdef int read_plan(Call *c, int at, Combining how, int counting, Plan *p) noexcept nogil:
    """A command whose number of keys is argv[at]; 0 after a refusal. The caller frees p.sources,
    also then."""
    cdef int64_t n
    memset(p, 0, sizeof(Plan))
    p.how = how
    if not read_int(c, c.argv[at], &n):
        return 0
    if n < 1:
        refuse_named(c, NO_INPUT_KEY)
        return 0
    if n > c.argc - at - 1:
        refuse_syntax(c)
        return 0
    if (not read_sources(c, at + 1, n, p) or not read_options(c, at + 1 + <int>n, counting, at > 1,
                                                              p)):
        return 0
    if how != DIFFERENCE:
        qsort(p.sources.p, p.n, sizeof(Source), smaller_first)
    return 1


# ---- combining -----------------------------------------------------------------------------------
cdef inline double aggregated(Aggregate how, double a, double b) noexcept nogil:
    if how == MIN:
        return b if b < a else a
    if how == MAX:
        return b if b > a else a
    return number(a + b)


cdef inline void add_result(Buffer *out, Element *m, double score) noexcept nogil:
    cdef Scored s
    s.m = m
    s.score = score
    buffer_add(out, &s, sizeof(s))


cdef void intersect(Kernel *k, Plan *p, Buffer *out) noexcept nogil:
    cdef Source *sources = <Source*>p.sources.p
    cdef size_t at = 0, i, left = p.limit if p.limit else <size_t>-1
    cdef Element *m
    cdef Element *other
    cdef double score
    m = next_member(sources[0].c, &at) if sources[0].c != NULL else NULL
    while m != NULL and left:
        score = number(source_score(k, &sources[0], m))
        for i in range(1, p.n):
            other = source_find(&sources[i], m)
            if other == NULL:
                break
            score = aggregated(p.aggregate, score, source_score(k, &sources[i], other))
        else:
            add_result(out, m, score)
            left -= 1
        m = next_member(sources[0].c, &at)


cdef void subtract(Kernel *k, Plan *p, Buffer *out) noexcept nogil:
    cdef Source *sources = <Source*>p.sources.p
    cdef size_t at = 0, i
    cdef Element *m = next_member(sources[0].c, &at) if sources[0].c != NULL else NULL
    while m != NULL:
        for i in range(1, p.n):
            if source_find(&sources[i], m) != NULL:
                break
        else:
            add_result(out, m, source_score(k, &sources[0], m))
        m = next_member(sources[0].c, &at)


cdef inline int compare_names(const Element *a, const Element *b) noexcept nogil:
    cdef uint32_t n = min(element_klen(a), element_klen(b))
    cdef int r = memcmp(element_key(<Element*>a), element_key(<Element*>b), n) if n else 0
    return r if r else (element_klen(a) > element_klen(b)) - (element_klen(a) < element_klen(b))


cdef int equals_together(const void *a, const void *b) noexcept nogil:
    """Orders Parts so that those of one name are neighbours, in the order of adding up."""
    cdef const Part *x = <const Part*>a
    cdef const Part *y = <const Part*>b
    cdef int r = (x.m.hash > y.m.hash) - (x.m.hash < y.m.hash)
    if r == 0:
        r = compare_names(x.m, y.m)
    return r if r else (x.place > y.place) - (x.place < y.place)


cdef int by_score(const void *a, const void *b) noexcept nogil:
    cdef const Scored *x = <const Scored*>a
    cdef const Scored *y = <const Scored*>b
    cdef uint64_t n = score_sort_key(x.score), m = score_sort_key(y.score)
    return (n > m) - (n < m) if n != m else compare_names(x.m, y.m)


cdef void unite(Kernel *k, Plan *p, Buffer *out) noexcept nogil:
    cdef Source *sources = <Source*>p.sources.p
    cdef Buffer parts
    cdef Part part
    cdef Part *all
    cdef Scored *last
    cdef size_t i, at, n
    memset(&parts, 0, sizeof(Buffer))
    for i in range(p.n):
        part.place = i
        at = 0
        part.m = next_member(sources[i].c, &at) if sources[i].c != NULL else NULL
        while part.m != NULL:
            part.score = number(source_score(k, &sources[i], part.m))
            buffer_add(&parts, &part, sizeof(part))
            part.m = next_member(sources[i].c, &at)
    all = <Part*>parts.p
    n = parts.n // sizeof(Part)
    if n:
        qsort(all, n, sizeof(Part), equals_together)
    for i in range(n):
        if i and compare_names(all[i].m, all[i - 1].m) == 0:
            last = <Scored*>(out.p + out.n - sizeof(Scored))
            last.score = aggregated(p.aggregate, last.score, all[i].score)
        else:
            add_result(out, all[i].m, all[i].score)
    buffer_free(&parts)


cdef int combine(Call *c, int at, Combining how, Plan *p, Buffer *out) noexcept nogil:
    """Reads the command and appends its result, sorted; 0 after a refusal. The caller frees out."""
    cdef int sound = read_plan(c, at, how, 0, p)
    memset(out, 0, sizeof(Buffer))
    if sound:
        if how == INTERSECTION:
            intersect(c.kernel, p, out)
        elif how == UNION:
            unite(c.kernel, p, out)
        else:
            subtract(c.kernel, p, out)
        if out.n:
            qsort(out.p, out.n // sizeof(Scored), sizeof(Scored), by_score)
    buffer_free(&p.sources)
    return sound


# ---- commands ------------------------------------------------------------------------------------
cdef void answer_combined(Call *c, Combining how) noexcept nogil:
    cdef Buffer members
    cdef Scored *all
    cdef size_t i, n
    cdef Plan p
    if combine(c, 1, how, &p, &members):
        all = <Scored*>members.p
        n = members.n // sizeof(Scored)
        reply_members_header(c, n, p.with_scores)
        for i in range(n):
            reply_scored(c, all[i].m, all[i].score, p.with_scores)
    buffer_free(&members)


cdef void store_combined(Call *c, Combining how) noexcept nogil:
    cdef Buffer members
    cdef Plan p
    if combine(c, 2, how, &p, &members):
        store_scored(c, c.argv[1], &members)
    buffer_free(&members)


cdef void zunion(Call *c) noexcept nogil:
    answer_combined(c, UNION)


cdef void zinter(Call *c) noexcept nogil:
    answer_combined(c, INTERSECTION)


cdef void zdiff(Call *c) noexcept nogil:
    answer_combined(c, DIFFERENCE)


cdef void zunionstore(Call *c) noexcept nogil:
    store_combined(c, UNION)


cdef void zinterstore(Call *c) noexcept nogil:
    store_combined(c, INTERSECTION)


cdef void zdiffstore(Call *c) noexcept nogil:
    store_combined(c, DIFFERENCE)


cdef void zintercard(Call *c) noexcept nogil:
    cdef Buffer members
    cdef Plan p
    memset(&members, 0, sizeof(Buffer))
    if read_plan(c, 1, INTERSECTION, 1, &p):
        intersect(c.kernel, &p, &members)
        reply_int(c.reply, members.n // sizeof(Scored))
    buffer_free(&p.sources)
    buffer_free(&members)


# ---- registration --------------------------------------------------------------------------------
STORES = ("Replaces what this replica had seen of the target by what it saw of the sources. A "
          "concurrent add to the target survives, of a concurrent "
          "increment the increment is left.")
INTERSECTING = ("O(N*M+L*log(L)) with N members of the smallest source, M sources and L "
                "members found")
UNITING = "O(N*log(N)) with N members of all sources together"
SUBTRACTING = "O(N*M+L*log(L)) with N members of the first source, M sources and L members found"

_WEIGHTS = " [WEIGHTS weight...] [AGGREGATE <SUM | MIN | MAX>]"

for _name, _options, _cost, _what, _since, _answering, _storing in [
        ("ZUNION", _WEIGHTS, UNITING, "members that any of several sorted sets has", "2.0.0",
         native(zunion), native(zunionstore)),
        ("ZINTER", _WEIGHTS, INTERSECTING, "members that all of several sorted sets have", "2.0.0",
         native(zinter), native(zinterstore)),
        ("ZDIFF", "", SUBTRACTING, "members of a sorted set that no other has", "6.2.0",
         native(zdiff), native(zdiffstore))]:
    command(f"{_name} numkeys key...{_options} [WITHSCORES]", arity=-3, flags="readonly",
            keys=[CountedKeys("RO access", 1)], group="sorted-set", since="6.2.0",
            complexity=_cost, summary=f"The {_what}.")(_answering)
    command(f"{_name}STORE destination numkeys key...{_options}", arity=-4,
            flags="write denyoom one_change",
            keys=[KeyRange("OW update", 1), CountedKeys("RO access", 2)], group="sorted-set",
            since=_since, complexity=_cost, summary=f"Stores the {_what}.",
            replicas=STORES)(_storing)
command("ZINTERCARD numkeys key... [LIMIT limit]", arity=-3, flags="readonly",
        keys=[CountedKeys("RO access", 1)], group="sorted-set", since="7.0.0",
        complexity="O(N*M) with N members of the smallest source and M sources",
        summary="How many members all of several sorted sets have.")(native(zintercard))
