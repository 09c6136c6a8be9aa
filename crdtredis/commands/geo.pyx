# cython: language_level=3
"""Geo commands: places on earth in a sorted set.

A place is a member whose score tells where it is. Longitude (-180 to 180) and latitude (-85.05 to
85.05, the square map of the Mercator projection) are each cut into 2^26 equal parts, and the bits
of the two numbers take turns, longitude first: 52 bits, which a double holds exactly. Places that
are near one another so mostly have near scores: the first 2 * s bits name a Cell, one of 4^s on the
map, and all places in it are one range of scores. So GEOADD is ZADD, and everything that holds of
concurrent scores holds of concurrent places.

A search covers its area with the cell of the centre and the eight around it, at the greatest s at
which they are large enough, and measures the distance (haversine, on a sphere) of every member in
these nine ranges. A polygon (of Valkey 9; its edges are straight on the map of degrees) has its
centre in the direction of the sum of its corners; a place is inside if a ray to the east crosses
its edges an odd number of times.

Clients see which cells are searched, and in which order: without ASC or DESC the answer has the
order of finding, and ANY takes what comes first. Both are Redis's, and so are constants and the
order of every floating point operation: scores, digits and the verdict on places at the very edge
are the same.

What is not Redis's: of places at exactly the same distance, COUNT takes those found first; Redis's
partial sorting takes any. What is not Valkey's: it overlooks places in polygons that reach around
half of the earth, or whose centre is beyond the edge of the map.

Source of the idea: G. Niemeyer's geohash (2008) and Morton's order (1966).
"""
from libc.math cimport M_PI, asin, atan2, cos, fabs, llrint, sin, sqrt
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport qsort
from libc.string cimport memset

from crdtredis._core cimport (T_ZSET, Collection, Element, Item, Kernel, OrderCursor, element_key,
                              element_klen, member_find, member_score, order_at, order_next,
                              order_of, order_rank, score_sort_key)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_float, refuse_syntax
from crdtredis._resp cimport (parse_double, reply_array, reply_bulk, reply_int, reply_null,
                              reply_null_array, reply_raw)
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport REFUSED, read_int
from crdtredis.commands.members cimport read_members
from crdtredis.commands.scored cimport CH, NX, XX, Scored, add_scored, store_scored
from crdtredis.errors cimport (GEO_ANY, GEO_BOX_NEGATIVE, GEO_CORNERS, GEO_COUNT,
                               GEO_EXACTLY_ONE, GEO_HEIGHT,
                               GEO_NO_MEMBER, GEO_PLACE, GEO_RADIUS, GEO_RADIUS_NEGATIVE,
                               GEO_RADIUS_STORE_WITH, GEO_STORE_WITH, GEO_UNIT, GEO_VERTICES,
                               GEO_WIDTH)
from crdtredis.numbers cimport REAL_TEXT, format_int64, format_long_double, parse_int64

from functools import partial

from crdtredis.commands.table import KeyAfter, KeyRange, command

cdef enum:
    STEPS = 26                          # the finest cells: 52 bits
    HASH_TEXT = 11                      # letters of a geohash

cdef const char *LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"
cdef double EARTH = 6372797.560856      # m, radius
cdef double MAP = 20037726.37           # m, half the width of the map
cdef double RADIAN = M_PI / 180
cdef double MAX_LATITUDE = 85.05112878


# ---- places and cells ----------------------------------------------------------------------------
cdef struct Place:
    double lon                          # degrees
    double lat

# A cell of the map at 2^step by 2^step; x counts eastward, y northward. The place at 180 degrees
# east is in the column 2^step, which no other place is in and no neighbour leads to; the same for
# the row at the northern edge.
cdef struct Cell:
    uint32_t x
    uint32_t y
    int step


cdef inline uint64_t spread(uint64_t v) noexcept nogil:
    """The lower 32 bits of v, each followed upwards by a 0."""
    v = (v | v << 16) & <uint64_t>0x0000ffff0000ffff
    v = (v | v << 8) & <uint64_t>0x00ff00ff00ff00ff
    v = (v | v << 4) & <uint64_t>0x0f0f0f0f0f0f0f0f
    v = (v | v << 2) & <uint64_t>0x3333333333333333
    return (v | v << 1) & <uint64_t>0x5555555555555555


cdef inline uint32_t gather(uint64_t v) noexcept nogil:
    """Every second bit of v: what was spread."""
    v &= <uint64_t>0x5555555555555555
    v = (v | v >> 1) & <uint64_t>0x3333333333333333
    v = (v | v >> 2) & <uint64_t>0x0f0f0f0f0f0f0f0f
    v = (v | v >> 4) & <uint64_t>0x00ff00ff00ff00ff
    v = (v | v >> 8) & <uint64_t>0x0000ffff0000ffff
    return <uint32_t>(v | v >> 16)


cdef inline uint64_t cell_bits(Cell *c) noexcept nogil:
    return spread(c.x) << 1 | spread(c.y)


cdef inline Cell cell_at(Place p, double max_latitude, int step) noexcept nogil:
    """The cell that holds p, on a map that ends at max_latitude in north and south."""
    cdef Cell c
    cdef double parts = <double>(1 << step)
    c.x = <uint32_t>((p.lon + 180) / 360 * parts)
    c.y = <uint32_t>((p.lat + max_latitude) / (max_latitude + max_latitude) * parts)
    c.step = step
    return c


cdef inline double west_of(uint32_t x, int step) noexcept nogil:
    """The longitude at which column x begins; the one before ends there."""
    return -180 + x / <double>(1 << step) * 360


cdef inline double south_of(uint32_t y, int step) noexcept nogil:
    return -MAX_LATITUDE + y / <double>(1 << step) * (MAX_LATITUDE + MAX_LATITUDE)


cdef inline double score_of(Place p) noexcept nogil:
    cdef Cell c = cell_at(p, MAX_LATITUDE, STEPS)
    return <double>cell_bits(&c)


cdef inline double within(double v, double most) noexcept nogil:
    return most if v > most else -most if v < -most else v


cdef inline Place place_of(double score) noexcept nogil:
    """The middle of the cell that a score names. Any score names one: what a double out of range
    becomes is what x86 makes of it in Redis."""
    cdef uint64_t bits
    cdef uint32_t x, y
    cdef Place p
    if score >= 0:
        bits = <uint64_t>score if score < 18446744073709551616. else 0
    else:
        bits = <uint64_t><int64_t>score if score >= -9223372036854775808. else <uint64_t>1 << 63
    x = gather(bits >> 1)
    y = gather(bits)
    p.lon = within((west_of(x, STEPS) + west_of(x + 1, STEPS)) / 2, 180)
    p.lat = within((south_of(y, STEPS) + south_of(y + 1, STEPS)) / 2, MAX_LATITUDE)
    return p


cdef inline double latitudes_apart(double a, double b) noexcept nogil:
    """m along a meridian"""
    return EARTH * fabs(a * RADIAN - b * RADIAN)


cdef double distance(Place a, Place b) noexcept nogil:
    """m on a great circle"""
    cdef double u, v = sin((b.lon * RADIAN - a.lon * RADIAN) / 2), h
    if v == 0:
        return latitudes_apart(a.lat, b.lat)
    u = sin((b.lat * RADIAN - a.lat * RADIAN) / 2)
    h = u * u + cos(a.lat * RADIAN) * cos(b.lat * RADIAN) * v * v
    # for opposite places h may be 1 + 2^-52, whose root is 1 again
    return 2.0 * EARTH * asin(sqrt(h))


# ---- searching -----------------------------------------------------------------------------------
cdef enum Shape:
    NO_SHAPE
    CIRCLE
    BOX
    POLYGON

cdef struct Area:
    Shape shape
    Place centre
    double unit                         # m
    Buffer corners                      # of a polygon: each a Place
    double radius                       # of a circle, in units
    double width                        # of a box, in units
    double height

# A member in the area.
cdef struct Found:
    Element *m
    Place at
    double score
    double away                         # m from the centre
    size_t nth                          # in the order of finding

# Where the nine cells lie, in the order in which they are searched.
cdef int[9] EAST = [0, 0, 0, 1, -1, 1, -1, 1, -1]
cdef int[9] NORTH = [0, 1, -1, 0, 0, 1, 1, -1, -1]


cdef inline Cell moved(Cell c, int east, int north) noexcept nogil:
    """A neighbour; around the earth, also across the poles' edges of the map."""
    cdef uint32_t last = (1 << c.step) - 1
    if east:
        c.x = (c.x + <uint32_t>east) & last
    if north:
        c.y = (c.y + <uint32_t>north) & last
    return c


cdef int step_for(double reach, double lat) noexcept nogil:
    """The step at which nine cells mostly cover what lies within `reach` m."""
    cdef int step = -1
    if reach == 0:
        return STEPS
    while reach < MAP:
        reach *= 2
        step += 1
    if fabs(lat) > 66:                  # cells are narrow near the poles
        step -= 1
    if fabs(lat) > 80:
        step -= 1
    return max(1, min(step, <int>STEPS))


cdef inline Place place(double lon, double lat) noexcept nogil:
    cdef Place p
    p.lon = lon
    p.lat = lat
    return p


cdef void centre_polygon(Area *a) noexcept nogil:
    cdef double x = 0, y = 0, z = 0, lon, lat
    cdef Place *p = <Place*>a.corners.p
    cdef size_t i
    for i in range(a.corners.n // sizeof(Place)):
        lon = p[i].lon * RADIAN
        lat = p[i].lat * RADIAN
        x += cos(lat) * cos(lon)
        y += cos(lat) * sin(lon)
        z += sin(lat)
    a.centre = place(atan2(y, x) / RADIAN, atan2(z, sqrt(x * x + y * y)) / RADIAN)


cdef double bound_polygon(Area *a, Place *low, Place *high) noexcept nogil:
    """low and high: the corners of the box around it; returns how far its places are at most. That
    is as far as the box's corners where none is more than a quarter of the earth east or west of
    the centre; farther, places between the corners may be the farthest."""
    cdef Place *p = <Place*>a.corners.p
    cdef size_t i
    low[0] = high[0] = p[0]
    for i in range(1, a.corners.n // sizeof(Place)):
        low[0] = place(min(low.lon, p[i].lon), min(low.lat, p[i].lat))
        high[0] = place(max(high.lon, p[i].lon), max(high.lat, p[i].lat))
    if max(high.lon - a.centre.lon, a.centre.lon - low.lon) > 90:
        return MAP
    return max(max(distance(a.centre, low[0]), distance(a.centre, high[0])),
               max(distance(a.centre, place(low.lon, high.lat)),
                   distance(a.centre, place(high.lon, low.lat))))


cdef int in_polygon(const Area *a, Place at) noexcept nogil:
    cdef const Place *p = <const Place*>a.corners.p
    cdef size_t n = a.corners.n // sizeof(Place), i, j = n - 1
    cdef int odd = 0
    for i in range(n):
        if ((p[i].lat > at.lat) != (p[j].lat > at.lat)
                and at.lon < ((p[j].lon - p[i].lon) * (at.lat - p[i].lat)
                              / (p[j].lat - p[i].lat) + p[i].lon)):
            odd = not odd
        j = i
    return odd


cdef double bound(Area *a, Place *low, Place *high) noexcept nogil:
    """The same of any shape."""
    cdef double tall = a.unit * (a.radius if a.shape == CIRCLE else a.height / 2)
    cdef double wide = a.unit * (a.radius if a.shape == CIRCLE else a.width / 2)
    cdef double reach = a.unit * (a.radius if a.shape == CIRCLE
                                  else sqrt(a.width / 2 * (a.width / 2) + a.height / 2 *
                                            (a.height / 2)))
    cdef double up = tall / EARTH / RADIAN
    # a degree of longitude is shortest at the side of the area that is nearer to the pole
    cdef double side = wide / EARTH / cos((a.centre.lat - up if a.centre.lat < 0
                                           else a.centre.lat + up) * RADIAN) / RADIAN
    if a.shape == POLYGON:
        return bound_polygon(a, low, high)
    low[0] = place(a.centre.lon - side, a.centre.lat - up)
    high[0] = place(a.centre.lon + side, a.centre.lat + up)
    return reach


cdef void cover(Area *a, Cell *cells) noexcept nogil:
    """The nine cells to search; those with step 0 hold nothing of the area."""
    cdef Place low, high
    cdef int step = step_for(bound(a, &low, &high), a.centre.lat)
    cdef int i, no_west, no_east, no_south, no_north
    cdef Place centre = a.centre
    cdef Cell c
    if a.shape == POLYGON:              # it may be north, south or east of the last cell
        centre = place(within(centre.lon, 179.999999), within(centre.lat, MAX_LATITUDE - 1e-6))
    c = cell_at(centre, MAX_LATITUDE, step)
    if step > 1 and (south_of(moved(c, 0, 1).y + 1, step) < high.lat
                     or south_of(moved(c, 0, -1).y, step) > low.lat
                     or west_of(moved(c, 1, 0).x + 1, step) < high.lon
                     or west_of(moved(c, -1, 0).x, step) > low.lon):
        step -= 1
        c = cell_at(centre, MAX_LATITUDE, step)
    no_south = step > 1 and south_of(c.y, step) < low.lat
    no_north = step > 1 and south_of(c.y + 1, step) > high.lat
    no_west = step > 1 and west_of(c.x, step) < low.lon
    no_east = step > 1 and west_of(c.x + 1, step) > high.lon
    for i in range(9):
        cells[i] = moved(c, EAST[i], NORTH[i])
        if ((NORTH[i] < 0 and no_south) or (NORTH[i] > 0 and no_north) or (EAST[i] < 0 and no_west)
            or (EAST[i] > 0 and no_east)):
            cells[i].step = 0


cdef int inside(Area *a, Place p, double *away) noexcept nogil:
    """Is p in the area? Then *away is how far from the centre."""
    cdef Place beside
    if a.shape == POLYGON:
        away[0] = distance(a.centre, p)
        return in_polygon(a, p)
    if a.shape == CIRCLE:
        # by more than rounding can make up for: without a sine
        if latitudes_apart(p.lat, a.centre.lat) * 0.999999 > a.radius * a.unit:
            return 0
        away[0] = distance(a.centre, p)
        return not away[0] > a.radius * a.unit
    if latitudes_apart(p.lat, a.centre.lat) > a.height * a.unit / 2:
        return 0
    beside.lon = a.centre.lon
    beside.lat = p.lat
    if distance(p, beside) > a.width * a.unit / 2:
        return 0
    away[0] = distance(a.centre, p)
    return 1


cdef void search_cell(Kernel *k, Collection *z, Area *a, Cell *cell, size_t most,
                      Buffer *out) noexcept nogil:
    """Appends the members of one cell that are in the area, until there are `most` in all."""
    cdef uint64_t bits = cell_bits(cell)
    cdef int rest = 2 * (STEPS - cell.step)
    cdef uint64_t end = score_sort_key(<double>((bits + 1) << rest))
    cdef OrderCursor at
    cdef uint64_t begin = score_sort_key(<double>(bits << rest))
    cdef Item *item = order_at(order_of(z), order_rank(order_of(z), begin, span(NULL, 0)), &at)
    cdef Found f
    while item != NULL and item.sort_key < end and out.n < most * sizeof(Found):
        f.m = item.e
        f.score = member_score(k, item.e)
        f.at = place_of(f.score)
        if inside(a, f.at, &f.away):
            f.nth = out.n
            buffer_add(out, &f, sizeof(f))
        item = order_next(&at)


cdef void search_area(Kernel *k, Collection *z, Area *a, size_t most, Buffer *out) noexcept nogil:
    cdef Cell cells[9]
    cdef int i, last = -1
    cover(a, cells)
    for i in range(9):
        # on a map of four cells, neighbours coincide
        if (cells[i].step and (last < 0 or cells[i].x != cells[last].x
                               or cells[i].y != cells[last].y)):
            search_cell(k, z, a, &cells[i], most, out)
            last = i


cdef int nearer(const void *a, const void *b) noexcept nogil:
    cdef const Found *x = <const Found*>a
    cdef const Found *y = <const Found*>b
    return ((x.away > y.away) - (x.away < y.away) if x.away != y.away
            else (x.nth > y.nth) - (x.nth < y.nth))


cdef int farther(const void *a, const void *b) noexcept nogil:
    cdef const Found *x = <const Found*>a
    cdef const Found *y = <const Found*>b
    return ((x.away < y.away) - (x.away > y.away) if x.away != y.away
            else (x.nth > y.nth) - (x.nth < y.nth))


ctypedef int (*Compare)(const void *a, const void *b) noexcept nogil


cdef void sink(Found *heap, size_t n, size_t i, Compare before) noexcept nogil:
    """In a heap with its last at the top: brings the i-th to where it belongs."""
    cdef size_t child = 2 * i + 1
    cdef Found f = heap[i]
    while child < n:
        if child + 1 < n and before(&heap[child], &heap[child + 1]) < 0:
            child += 1
        if before(&f, &heap[child]) >= 0:
            break
        heap[i] = heap[child]
        i = child
        child = 2 * i + 1
    heap[i] = f


cdef void sort_first(Found *all, size_t n, size_t most, Compare before) noexcept nogil:
    """Brings the first `most` of n to the front, in order. Those chosen so far stand in a heap, so
    the others cost a comparison each."""
    cdef size_t i
    if most < n:
        for i in range(most // 2):
            sink(all, most, most // 2 - 1 - i, before)
        for i in range(most, n):
            if before(&all[i], &all[0]) < 0:
                all[0] = all[i]
                sink(all, most, 0, before)
    qsort(all, most, sizeof(Found), before)


# ---- reading arguments ---------------------------------------------------------------------------
cdef int read_number(Call *c, Span arg, double *out, const char *text) noexcept nogil:
    """A real number, or a refusal with the text."""
    if parse_double(arg.p, arg.n, out):
        return 1
    refuse(c, text)
    return 0


cdef int read_place(Call *c, int i, Place *out) noexcept nogil:
    """The longitude and latitude argv[i] and argv[i + 1]; 0 after a refusal."""
    cdef char text[1024]                                    # %f of a double has up to 317 bytes
    if (not parse_double(c.argv[i].p, c.argv[i].n, &out.lon)
        or not parse_double(c.argv[i + 1].p, c.argv[i + 1].n, &out.lat)):
        refuse_float(c)
        return 0
    if fabs(out.lon) <= 180 and fabs(out.lat) <= MAX_LATITUDE:
        return 1
    snprintf(text, sizeof(text), GEO_PLACE, out.lon, out.lat)
    refuse(c, text)
    return 0


cdef int read_unit(Call *c, Span arg, double *out) noexcept nogil:
    """m in a unit; 0 after a refusal."""
    if is_word(arg, "M"):
        out[0] = 1
    elif is_word(arg, "KM"):
        out[0] = 1000
    elif is_word(arg, "FT"):
        out[0] = 0.3048
    elif is_word(arg, "MI"):
        out[0] = 1609.34
    else:
        refuse(c, GEO_UNIT)
        return 0
    return 1


cdef int read_circle(Call *c, int i, Area *a) noexcept nogil:
    """Radius and unit from argv[i] on; 0 after a refusal."""
    a.shape = CIRCLE
    if not read_number(c, c.argv[i], &a.radius, GEO_RADIUS):
        return 0
    if a.radius < 0:
        refuse(c, GEO_RADIUS_NEGATIVE)
        return 0
    return read_unit(c, c.argv[i + 1], &a.unit)


cdef int read_box(Call *c, int i, Area *a) noexcept nogil:
    """Width, height and unit from argv[i] on; 0 after a refusal."""
    a.shape = BOX
    if (not read_number(c, c.argv[i], &a.width, GEO_WIDTH)
            or not read_number(c, c.argv[i + 1], &a.height, GEO_HEIGHT)):
        return 0
    if a.width < 0 or a.height < 0:
        refuse(c, GEO_BOX_NEGATIVE)
        return 0
    return read_unit(c, c.argv[i + 2], &a.unit)


cdef int read_polygon(Call *c, int i, Area *a) noexcept nogil:
    """The number of corners and these from argv[i] on: how many arguments; 0 after a refusal."""
    cdef int64_t n, j
    cdef Place p
    a.shape = POLYGON
    a.unit = 1
    a.corners.n = 0
    if parse_int64(c.argv[i].p, c.argv[i].n, &n) != 1 or n != <int>n:
        refuse(c, GEO_VERTICES)
        return 0
    if n < 3 or n > (c.argc - i - 1) // 2:
        refuse(c, GEO_CORNERS)
        return 0
    for j in range(n):
        if not read_place(c, i + 1 + 2 * <int>j, &p):
            return 0
        buffer_add(&a.corners, &p, sizeof(Place))
    centre_polygon(a)
    return 1 + 2 * <int>n


cdef int member_place(Call *c, Collection *z, Span name, Place *out) noexcept nogil:
    """Where a member is; 0 if there is none of that name."""
    cdef Element *m = member_find(c.kernel, z, name) if z != NULL else NULL
    if m != NULL:
        out[0] = place_of(member_score(c.kernel, m))
    return m != NULL


cdef int read_centre(Call *c, Collection *z, Span name, Place *out) noexcept nogil:
    """Where the member is around which to search; 0 after a refusal. Without a key the answer is
    empty, whatever the name."""
    if z == NULL or member_place(c, z, name, out):
        return 1
    refuse(c, GEO_NO_MEMBER)
    return 0


# ---- replies -------------------------------------------------------------------------------------
cdef void reply_distance(Call *c, double d) noexcept nogil:
    """Four decimals. The product is rounded, not its digits: a half goes to the even side."""
    cdef char text[32]
    cdef int64_t v = llrint(d * 10000)
    cdef int n = format_int64(v // 10000, text), i
    text[n] = c'.'
    v %= 10000
    for i in range(4):
        text[n + 4 - i] = <char>(48 + v % 10)
        v //= 10
    reply_bulk(c.reply, text, n + 5)


cdef inline void reply_degrees(Call *c, double v) noexcept nogil:
    cdef char text[REAL_TEXT]
    cdef int n
    if c.reply.resp == 2:
        reply_bulk(c.reply, text, format_long_double(v, text))
        return
    text[0] = c','
    n = 1 + format_long_double(v, text + 1)
    text[n] = 13
    text[n + 1] = 10
    reply_raw(c.reply, text, n + 2)


cdef void reply_place(Call *c, Place p) noexcept nogil:
    reply_array(c.reply, 2)
    reply_degrees(c, p.lon)
    reply_degrees(c, p.lat)


# ---- places --------------------------------------------------------------------------------------
cdef void geoadd(Call *c) noexcept nogil:
    cdef int first = 2, options = 0, i, n
    cdef Buffer scores
    cdef Place p
    while first < c.argc:
        if is_word(c.argv[first], "NX"):
            options |= NX
        elif is_word(c.argv[first], "XX"):
            options |= XX
        elif is_word(c.argv[first], "CH"):
            options |= CH
        else:
            break
        first += 1
    n = (c.argc - first) // 3
    if n == 0 or (c.argc - first) % 3 or (options & NX and options & XX):
        refuse_syntax(c)
        return
    memset(&scores, 0, sizeof(Buffer))
    buffer_need(&scores, n * sizeof(double))
    for i in range(n):
        if not read_place(c, first + 3 * i, &p):
            break
        (<double*>scores.p)[i] = score_of(p)
    else:
        add_scored(c, options, <double*>scores.p, n, c.argv + first + 2, 3)
    buffer_free(&scores)


cdef void geopos(Call *c) noexcept nogil:
    cdef Collection *z
    cdef Place p
    cdef int i
    if read_members(c, c.argv[1], T_ZSET, &z) == REFUSED:
        return
    reply_array(c.reply, c.argc - 2)
    for i in range(2, c.argc):
        if member_place(c, z, c.argv[i], &p):
            reply_place(c, p)
        else:
            reply_null_array(c.reply)


cdef void geohash(Call *c) noexcept nogil:
    """The common geohash, whose map goes to the poles. Ten letters of five bits; the eleventh would
    tell of bits that are not there."""
    cdef char text[HASH_TEXT]
    cdef Collection *z
    cdef uint64_t bits
    cdef Place p
    cdef Cell cell
    cdef int i, j
    if read_members(c, c.argv[1], T_ZSET, &z) == REFUSED:
        return
    reply_array(c.reply, c.argc - 2)
    for i in range(2, c.argc):
        if not member_place(c, z, c.argv[i], &p):
            reply_null(c.reply)
            continue
        cell = cell_at(p, 90, STEPS)
        bits = cell_bits(&cell) >> 2
        for j in range(HASH_TEXT - 1):
            text[HASH_TEXT - 2 - j] = LETTERS[bits & 31]
            bits >>= 5
        text[HASH_TEXT - 1] = LETTERS[0]
        reply_bulk(c.reply, text, HASH_TEXT)


cdef void geodist(Call *c) noexcept nogil:
    cdef double unit = 1
    cdef Collection *z
    cdef Place a, b
    if c.argc > 5:
        refuse_syntax(c)
        return
    if ((c.argc == 5 and not read_unit(c, c.argv[4], &unit))
        or read_members(c, c.argv[1], T_ZSET, &z) == REFUSED):
        return
    if member_place(c, z, c.argv[2], &a) and member_place(c, z, c.argv[3], &b):
        reply_distance(c, distance(a, b) / unit)
    else:
        reply_null(c.reply)


# ---- searches ------------------------------------------------------------------------------------
cdef enum Form:
    BY_OPTIONS = 1          # GEOSEARCH: centre and shape are options
    FROM_MEMBER = 2         # GEORADIUSBYMEMBER; else GEORADIUS
    READ_ONLY = 4           # no STORE, no STOREDIST
    INTO_FIRST = 8          # GEOSEARCHSTORE: argv[1] is the target, argv[2] the source

cdef enum Order:
    AS_FOUND
    NEAREST_FIRST
    FARTHEST_FIRST

# A search as a client states it.
cdef struct Query:
    Area area
    int from_member
    int from_place
    Order order
    int any
    int64_t count           # 0: all
    int with_distance
    int with_score
    int with_place
    Span *target            # NULL: answer
    int store_distance


cdef int read_option(Call *c, int i, int form, Collection *z, Query *q) noexcept nogil:
    """The option argv[i]: how many arguments it takes with its name; 0 after a refusal."""
    cdef int left = c.argc - i - 1, n
    cdef Span arg = c.argv[i]
    cdef int polygon = q.area.shape == POLYGON
    if is_word(arg, "WITHDIST"):
        q.with_distance = 1
    elif is_word(arg, "WITHHASH"):
        q.with_score = 1
    elif is_word(arg, "WITHCOORD"):
        q.with_place = 1
    elif is_word(arg, "ANY"):
        q.any = 1
    elif is_word(arg, "ASC"):
        q.order = NEAREST_FIRST
    elif is_word(arg, "DESC"):
        q.order = FARTHEST_FIRST
    elif is_word(arg, "COUNT") and left >= 1:
        if not read_int(c, c.argv[i + 1], &q.count):
            return 0
        if q.count <= 0:
            refuse(c, GEO_COUNT)
            return 0
        return 2
    elif form & INTO_FIRST and is_word(arg, "STOREDIST"):
        q.store_distance = 1
    elif (not form & (READ_ONLY | BY_OPTIONS) and left >= 1
          and (is_word(arg, "STORE") or is_word(arg, "STOREDIST"))):
        q.target = &c.argv[i + 1]
        q.store_distance = is_word(arg, "STOREDIST")
        return 2
    elif form & BY_OPTIONS and is_word(arg, "FROMMEMBER") and left >= 1 and not (
            q.from_place or polygon):
        q.from_member = 1
        return 2 if read_centre(c, z, c.argv[i + 1], &q.area.centre) else 0
    elif form & BY_OPTIONS and is_word(arg, "FROMLONLAT") and left >= 2 and not (
            q.from_member or polygon):
        q.from_place = 1
        return 3 if read_place(c, i + 1, &q.area.centre) else 0
    elif form & BY_OPTIONS and is_word(arg, "BYRADIUS") and left >= 2 and (
            q.area.shape != BOX and not polygon):
        return 3 if read_circle(c, i + 1, &q.area) else 0
    elif form & BY_OPTIONS and is_word(arg, "BYBOX") and left >= 3 and (
            q.area.shape != CIRCLE and not polygon):
        return 4 if read_box(c, i + 1, &q.area) else 0
    elif (form & BY_OPTIONS and is_word(arg, "BYPOLYGON") and left >= 1
          and not q.from_member and not q.from_place and (q.area.shape == NO_SHAPE or polygon)):
        n = read_polygon(c, i + 1, &q.area)
        return 1 + n if n else 0
    else:
        refuse_syntax(c)
        return 0
    return 1


cdef void refuse_either(Call *c, const char *what) noexcept nogil:
    """argv[0] is a command's name, so its length is bounded."""
    cdef char text[160]
    snprintf(text, sizeof(text), GEO_EXACTLY_ONE, what,
             <int>c.argv[0].n, c.argv[0].p)
    refuse(c, text)


cdef int read_query(Call *c, int form, Collection *z, Query *q) noexcept nogil:
    """The whole command, whose source is z (NULL: no such key); 0 after a refusal."""
    cdef int i, n
    if form & BY_OPTIONS:
        i = 3 if form & INTO_FIRST else 2
        if form & INTO_FIRST:
            q.target = &c.argv[1]
    elif form & FROM_MEMBER:
        i = 5
        if (z != NULL and (not read_centre(c, z, c.argv[2], &q.area.centre)
                           or not read_circle(c, 3, &q.area))):
            return 0
    else:
        i = 6
        if not read_place(c, 2, &q.area.centre) or not read_circle(c, 4, &q.area):
            return 0
    while i < c.argc:
        n = read_option(c, i, form, z, q)
        if n == 0:
            return 0
        i += n
    if q.target != NULL and (q.with_distance or q.with_score or q.with_place):
        refuse(c,
               GEO_STORE_WITH
             if form & INTO_FIRST else
             GEO_RADIUS_STORE_WITH)
    elif (form & BY_OPTIONS and not q.from_member and not q.from_place
          and q.area.shape != POLYGON):
        refuse_either(c, "FROMMEMBER or FROMLONLAT")
    elif form & BY_OPTIONS and q.area.shape == NO_SHAPE:
        refuse_either(c, "BYRADIUS and BYBOX")
    elif q.any and not q.count:
        refuse(c, GEO_ANY)
    else:
        if q.count and not q.any and q.order == AS_FOUND:
            q.order = NEAREST_FIRST                         # a number of them: the nearest
        return 1
    return 0


cdef void answer(Call *c, Query *q, Found *found, size_t n) noexcept nogil:
    cdef int more = q.with_distance + q.with_score + q.with_place
    cdef size_t i
    cdef Found *f
    reply_array(c.reply, n)
    for i in range(n):
        f = &found[i]
        if more:
            reply_array(c.reply, 1 + more)
        reply_bulk(c.reply, element_key(f.m), element_klen(f.m))
        if q.with_distance:
            reply_distance(c, f.away / q.area.unit)
        if q.with_score:
            reply_int(c.reply, <int64_t>f.score if fabs(f.score) < 9223372036854775808.
                      else INT64_MIN)
        if q.with_place:
            reply_place(c, f.at)


cdef void store(Call *c, Query *q, Found *found, size_t n) noexcept nogil:
    cdef Buffer members
    cdef Scored one
    cdef size_t i
    memset(&members, 0, sizeof(Buffer))
    for i in range(n):
        one.m = found[i].m
        one.score = found[i].away / q.area.unit if q.store_distance else found[i].score
        buffer_add(&members, &one, sizeof(one))
    store_scored(c, q.target[0], &members)
    buffer_free(&members)


cdef void search(Call *c, int form) noexcept nogil:
    cdef Collection *z
    cdef Buffer found
    cdef Query q
    cdef size_t n, wanted
    memset(&q, 0, sizeof(Query))
    if (read_members(c, c.argv[2 if form & INTO_FIRST else 1], T_ZSET, &z) == REFUSED
        or not read_query(c, form, z, &q)):
        buffer_free(&q.area.corners)
        return
    memset(&found, 0, sizeof(Buffer))
    if z != NULL:
        search_area(c.kernel, z, &q.area, <size_t>q.count if q.any else <size_t>-1 // sizeof(Found),
                    &found)
    n = found.n // sizeof(Found)
    wanted = min(n, <size_t>q.count) if q.count else n
    if q.order != AS_FOUND and n:
        sort_first(<Found*>found.p, n, wanted, nearer if q.order == NEAREST_FIRST else farther)
    if q.target != NULL:
        store(c, &q, <Found*>found.p, wanted)
    else:
        answer(c, &q, <Found*>found.p, wanted)
    buffer_free(&found)
    buffer_free(&q.area.corners)


cdef void georadius(Call *c) noexcept nogil:
    search(c, 0)


cdef void georadius_ro(Call *c) noexcept nogil:
    search(c, READ_ONLY)


cdef void georadiusbymember(Call *c) noexcept nogil:
    search(c, FROM_MEMBER)


cdef void georadiusbymember_ro(Call *c) noexcept nogil:
    search(c, FROM_MEMBER | READ_ONLY)


cdef void geosearch(Call *c) noexcept nogil:
    search(c, BY_OPTIONS)


cdef void geosearchstore(Call *c) noexcept nogil:
    search(c, BY_OPTIONS | INTO_FIRST)


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="geo")
ADDS = ("As ZADD: of concurrent places of one member the one with the later timestamp wins; a "
        "member that is added survives a concurrent removal. "
        "NX and XX test what this replica sees.")
STORES = ("Replaces what this replica had seen of the target by what it found. A concurrent add to "
          "the target survives.")
MEMBERS = "O(log(N)*M) with N members and M asked for"
SEARCH = ("O(log(N)+M) with N members, M of them in or near the area; with ASC, DESC or COUNT also "
          "O(L*log(L)) with L found")

_of_one_key("GEOADD key [NX | XX] [CH] <longitude latitude member>...", arity=-5,
        flags="write denyoom", access="RW update", since="3.2.0",
        complexity="O(log(N)) per member, with N members",
        summary="Adds places to a sorted set, or moves them.", replicas=ADDS)(native(geoadd))
_of_one_key("GEODIST key member1 member2 [M | KM | FT | MI]", arity=-4, flags="readonly",
        since="3.2.0", complexity="O(log(N))",
        summary="The distance between two places.")(native(geodist))
_of_one_key("GEOHASH key [member]...", arity=-2, flags="readonly", since="3.2.0",
        complexity=MEMBERS, summary="The geohashes of places.")(native(geohash))
_of_one_key("GEOPOS key [member]...", arity=-2, flags="readonly", since="3.2.0", complexity=MEMBERS,
        summary="Longitude and latitude of places.")(native(geopos))
_of_one_key("GEOSEARCH key [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius "
            "<M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON num-vertices "
            "<longitude latitude>...> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] "
            "[WITHHASH]", arity=-7, flags="readonly", since="6.2.0", complexity=SEARCH,
        summary="The places in a circle, a box, or a polygon.")(native(geosearch))
command("GEOSEARCHSTORE destination source [FROMMEMBER member | FROMLONLAT longitude latitude] "
        "<BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON "
        "num-vertices <longitude latitude>...> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
        arity=-8, flags="write denyoom one_change",
        keys=[KeyRange("OW update", 1), KeyRange("RO access", 2)], group="geo", since="6.2.0",
        complexity=SEARCH,
        summary="Stores the places in a circle, a box, or a polygon.",
        replicas=STORES)(native(geosearchstore))
command("GEORADIUS key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] "
        "[WITHHASH] [ASC | DESC] [COUNT count [ANY]] [STORE key | STOREDIST key]", arity=-6,
        flags="write denyoom one_change",
        keys=[KeyRange("RO access", 1), KeyAfter("OW update", "STORE", 6),
              KeyAfter("OW update", "STOREDIST", 6)],
        group="geo", since="3.2.0", complexity=SEARCH,
        summary="The places in a circle, answered or stored.", replicas=STORES)(native(georadius))
command("GEORADIUSBYMEMBER key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] "
        "[WITHHASH] [ASC | DESC] [COUNT count [ANY]] [STORE key | STOREDIST key]", arity=-5,
        flags="write denyoom one_change",
        keys=[KeyRange("RO access", 1), KeyAfter("OW update", "STORE", 5),
              KeyAfter("OW update", "STOREDIST", 5)],
        group="geo", since="3.2.0", complexity=SEARCH,
        summary="The places in a circle around one of them, answered or stored.",
        replicas=STORES)(native(georadiusbymember))
_of_one_key("GEORADIUS_RO key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] "
            "[WITHDIST] [WITHHASH] [ASC | DESC] [COUNT count [ANY]]", arity=-6, flags="readonly",
        since="3.2.10", complexity=SEARCH, summary="The places in a circle.")(native(georadius_ro))
_of_one_key("GEORADIUSBYMEMBER_RO key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] "
            "[WITHHASH] [ASC | DESC] [COUNT count [ANY]]", arity=-5, flags="readonly",
        since="3.2.10", complexity=SEARCH,
        summary="The places in a circle around one of them.")(native(georadiusbymember_ro))
