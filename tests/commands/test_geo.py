"""Geo commands through an Executor: exact cases, the edges of the map, and with two of them, what
concurrent commands do (as sorted sets).

What redis-server answers to the same calls is tested in tests/compat, and here for many places at
once: every digit of every reply."""
import math
import random

import pytest

from tests.commands.local import Local, sync
from tests.commands.run import Client

SICILY = (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")
NORTH = 85.05112878


@pytest.fixture
def c():
    return Client()


@pytest.fixture
def sicily(c):
    c("GEOADD", "g", *SICILY)
    return c


# ---- one replica ---------------------------------------------------------------------------------

def test_places_are_scores_of_52_bits(sicily):
    assert (sicily("ZRANGE", "g", 0, -1, "WITHSCORES") == [b"Palermo", b"3479099956230698",
                                                           b"Catania", b"3479447370796909"])
    assert sicily("TYPE", "g") == b"zset"


def test_add_options(sicily):
    assert sicily("GEOADD", "g", "NX", "CH", 1, 1, "Palermo", 2, 2, "new") == 1
    assert sicily("GEOADD", "g", "XX", "CH", 1, 1, "Palermo", 2, 2, "none") == 1
    assert sicily("GEOADD", "g", "CH", 1, 1, "Palermo", 2, 2, "new") == 0
    assert sicily("ZRANGE", "g", 0, -1) == [b"Palermo", b"new", b"Catania"]


def test_positions_hashes_distances(sicily):
    assert sicily("GEOPOS", "g", "Palermo", "nobody", "Catania") == [
        [b"13.36138933897018433", b"38.11555639549629859"], None,
        [b"15.08726745843887329", b"37.50266842333162032"]]
    assert (sicily("GEOHASH", "g", "Palermo", "nobody", "Catania")
            == [b"sqc8b49rny0", None, b"sqdtr74hyu0"])
    assert sicily("GEODIST", "g", "Palermo", "Catania") == b"166274.1516"
    assert ([sicily("GEODIST", "g", "Palermo", "Catania", unit) for unit in ("KM", "mi", "Ft")]
            == [b"166.2742", b"103.3182", b"545518.8700"])
    assert sicily("GEODIST", "g", "Palermo", "Palermo", "m") == b"0.0000"
    assert sicily("GEODIST", "g", "Palermo", "nobody") is None
    assert sicily("GEODIST", "none", "a", "b") is None
    assert sicily("GEOPOS", "none", "a") == [None]
    assert sicily("GEOPOS", "g") == sicily("GEOHASH", "g") == []


def test_replies_in_resp3(sicily):
    d = sicily.other(resp=3)
    assert (d.raw("GEOPOS", "g", "Palermo", "x")
            == b"*2\r\n*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n_\r\n")
    assert d.raw("GEODIST", "g", "Palermo", "Catania") == b"$11\r\n166274.1516\r\n"
    assert d.raw("GEODIST", "g", "Palermo", "x") == d.raw("GEODIST", "x", "a", "b") == b"_\r\n"
    assert d.raw("GEOSEARCH", "g", "FROMMEMBER", "Palermo", "BYRADIUS", 1, "m", "WITHDIST",
        "WITHHASH", "WITHCOORD") == (
        b"*1\r\n*4\r\n$7\r\nPalermo\r\n$6\r\n0.0000\r\n:3479099956230698\r\n*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n")


def test_searches(sicily):
    sicily("GEOADD", "g", 12.758489, 38.788135, "edge1", 17.241510, 38.788135, "edge2")
    near = ("FROMLONLAT", 15, 37)
    assert (sicily("GEOSEARCH", "g", *near, "BYBOX", 400, 400, "km", "ASC")
            == [b"Catania", b"Palermo", b"edge2", b"edge1"])
    assert (sicily("GEOSEARCH", "g", *near, "BYRADIUS", 200, "km", "DESC", "WITHDIST")
            == [[b"Palermo", b"190.4424"], [b"Catania", b"56.4413"]])
    assert (sicily("GEOSEARCH", "g", *near, "BYBOX", 400, 400, "km", "COUNT",
                   3) == [b"Catania", b"Palermo", b"edge2"])
    assert (sicily("GEOSEARCH", "g", *near, "BYBOX", 400, 400, "km", "COUNT", 2, "DESC")
            == [b"edge1", b"edge2"])
    assert len(sicily("GEOSEARCH", "g", *near, "BYBOX", 400, 400, "km", "COUNT", 3, "ANY")) == 3
    assert sicily("GEORADIUS", "g", 15, 37, 200, "km", "ASC") == [b"Catania", b"Palermo"]
    assert sicily("GEORADIUS_RO", "g", 15, 37, 200, "km", "COUNT", 1, "DESC") == [b"Palermo"]
    assert sicily("GEORADIUSBYMEMBER", "g", "Palermo", 100, "km", "ASC") == [b"Palermo", b"edge1"]
    assert sicily("GEORADIUSBYMEMBER_RO", "g", "Palermo", 0, "m") == [b"Palermo"]
    assert sicily("GEOSEARCH", "none", "FROMMEMBER", "x", "BYRADIUS", 1, "m") == []


def test_polygons(sicily):
    """Digits are those of Valkey 9.1."""
    sicily("GEOADD", "g", 12.758489, 38.788135, "edge")
    around = ("BYPOLYGON", 4, 12, 36, 12, 40, 17, 40, 17, 36)
    assert (sicily("GEOSEARCH", "g", *around, "ASC", "WITHDIST")
            == [[b"Catania", b"77850.3036"], [b"Palermo", b"100190.1992"],
                [b"edge", b"173823.9616"]])
    assert (sicily("GEOSEARCH", "g", "DESC", "BYPOLYGON", 3, 13, 37, 13, 39, 14, 38, "WITHDIST")
            == [[b"Palermo", b"12982.3892"]])
    # with a corner that points inwards
    assert (sicily("GEOSEARCH", "g", "BYPOLYGON", 5, 12, 36, 12, 40, 14, 37.9, 17, 40, 17, 36)
            == [b"Palermo", b"edge", b"Catania"])
    assert sicily("GEOSEARCH", "g", *around, "BYPOLYGON", 3, 1, 1, 1, 1, 2, 2) == []
    assert sicily("GEOSEARCH", "none", *around) == []
    assert sicily("GEOSEARCHSTORE", "t", "g", *around, "STOREDIST", "COUNT", 1) == 1
    assert sicily("ZRANGE", "t", 0, -1, "WITHSCORES") == [b"Catania", b"7.78503035583421e+4"]



def in_polygon(corners, x, y):
    """Does a ray to the east cross its edges an odd number of times?"""
    crossed = 0
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1]):
        crossed += (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1
    return crossed % 2 == 1


def test_polygons_hold_what_is_in_them_however_large_they_are():
    """Around the earth, with a centre beyond the poles' edges of the map or at its seam: every
    place is looked at."""
    rng, c = random.Random(7), Client()
    c("GEOADD", "g", *(part for i in range(300)
                       for part in (rng.uniform(-179, 179), rng.uniform(-84, 84), i)))
    c("GEOADD", "g", 64.946, 17.96, "far")
    names = c("ZRANGE", "g", 0, -1)
    places = {n: tuple(map(float, at)) for n, at in zip(names, c("GEOPOS", "g", *names))}
    polygons = [[(180, NORTH), (-179.99, 85), (0, -NORTH), (0, 85), (-179.99, NORTH)],
                [(180, -NORTH), (-179.99, -NORTH), (179.99, NORTH), (-180, NORTH), (180, 0)],
                [(180, 0), (-179.99, 0), (179.99, 27.79946)]]
    for wide, tall in [(180, NORTH), (120, 20), (60, 80), (5, 5)] * 15:
        polygons.append([(rng.uniform(-wide, wide), rng.uniform(-tall, tall))
                         for _ in range(rng.choice([3, 4, 9]))])
    for corners in polygons:
        found = c("GEOSEARCH", "g", "BYPOLYGON", len(corners), *(v for at in corners for v in at))
        assert sorted(found) == sorted(n for n, at in places.items() if in_polygon(corners, *at))

def test_stored_searches(sicily):
    sicily("SET", "t", "a string")
    assert sicily("GEOSEARCHSTORE", "t", "g", "FROMLONLAT", 15, 37, "BYRADIUS", 200, "km") == 2
    assert sicily("ZRANGE", "t", 0, -1, "WITHSCORES") == sicily("ZRANGE", "g", 0, -1, "WITHSCORES")
    assert (sicily("GEOSEARCHSTORE", "t", "g", "FROMLONLAT", 15, 37, "BYRADIUS", 200, "km", "COUNT",
                   1, "STOREDIST") == 1)
    assert sicily("ZRANGE", "t", 0, -1, "WITHSCORES") == [b"Catania", b"56.4412578701582"]
    # the last one holds
    assert sicily("GEORADIUS", "g", 15, 37, 200, "km", "STORE", "x", "STOREDIST", "t") == 2
    assert sicily("EXISTS", "x") == 0 and sicily("ZSCORE", "t", "Catania") == b"56.4412578701582"
    # the target is the source
    assert sicily("GEORADIUSBYMEMBER", "g", "Palermo", 1, "m", "STORE", "g") == 1
    assert sicily("ZRANGE", "g", 0, -1) == [b"Palermo"]
    assert sicily("GEOSEARCHSTORE", "t", "none", "FROMMEMBER", "x", "BYRADIUS", 1, "m") == 0
    assert sicily("EXISTS", "t") == 0


@pytest.mark.parametrize("argv, text", [
    (("GEOADD", "g", 181, 0, "a"), "ERR invalid longitude,latitude pair 181.000000,0.000000"),
    (("GEOADD", "g", 0, "85.0511288", "a"),
     "ERR invalid longitude,latitude pair 0.000000,85.051129"),
    (("GEOADD", "g", 0, 0, "a", "inf", 0, "b"), "ERR invalid longitude,latitude pair inf,0.000000"),
    (("GEOADD", "g", 0, "x", "a"), "ERR value is not a valid float"),
    (("GEOADD", "g", "NX", "XX", 0, 0, "a"), "ERR syntax error"),
    (("GEOADD", "g", 0, 0, "a", 1), "ERR syntax error"),
    (("GEOADD", "g", "NX", "CH", "NX"), "ERR syntax error"),
    (("GEODIST", "g", "a", "b", "yd"), "ERR unsupported unit provided. please use M, KM, FT, MI"),
    (("GEODIST", "g", "a", "b", "m", "x"), "ERR syntax error"),
    (("GEORADIUS", "g", 0, 0, "x", "m"), "ERR need numeric radius"),
    (("GEORADIUS", "g", 0, 0, -1, "m"), "ERR radius cannot be negative"),
    (("GEORADIUS", "g", 0, 0, 1, "m", "COUNT", 0), "ERR COUNT must be > 0"),
    (("GEORADIUS", "g", 0, 0, 1, "m", "ANY"), "ERR the ANY argument requires COUNT argument"),
    (("GEORADIUS_RO", "g", 0, 0, 1, "m", "STORE", "t"), "ERR syntax error"),
    (("GEORADIUS", "g", 0, 0, 1, "m", "STORE", "t", "WITHDIST"),
     "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD "
     "options"),
    (("GEORADIUSBYMEMBER", "g", "nobody", 1, "m"), "ERR could not decode requested zset member"),
    (("GEOSEARCH", "g", "BYPOLYGON", 3, 1, 1, 1, 1, 181, 1),
     "ERR invalid longitude,latitude pair 181.000000,1.000000"),
    (("GEOSEARCH", "g", "BYPOLYGON", 3, 1, 1, 1, 1, 2, 2, "FROMLONLAT", 1, 1), "ERR syntax error"),
    (("GEOSEARCH", "g", "FROMLONLAT", 1, 1, "BYPOLYGON", 3, 1, 1, 1, 1, 2, 2), "ERR syntax error"),
    (("GEOSEARCH", "g", "BYPOLYGON", 3, 1, 1, 1, 1, 2, 2, "BYBOX", 1, 1, "m"), "ERR syntax error"),
    (("GEOSEARCH", "g", "BYRADIUS", 1, "m", "BYPOLYGON", 3, 1, 1, 1, 1, 2, 2), "ERR syntax error"),
    *((("GEOSEARCH", "g", "BYPOLYGON", n, 1, 1, 1, 1, 2, 2),
       "ERR GEOSEARCH BYPOLYGON must have at least 3 vertices") for n in (2, 4, -1, 2**31 - 1)),
    *((("GEOSEARCH", "g", "BYPOLYGON", n, 1, 1, 1, 1, 2, 2), "ERR invalid number of vertices")
      for n in ("x", "3.0", 1 << 31, -1 << 63, 1 << 64)),
    (("GEOSEARCH", "g", "FROMLONLAT", 0, 0, "BYBOX", "x", 1, "m"), "ERR need numeric width"),
    (("GEOSEARCH", "g", "FROMLONLAT", 0, 0, "BYBOX", 1, "x", "m"), "ERR need numeric height"),
    (("GEOSEARCH", "g", "FROMLONLAT", 0, 0, "BYBOX", 1, -1, "m"),
     "ERR height or width cannot be negative"),
    (("GEOSEARCH", "g", "FROMLONLAT", 0, 0, "FROMMEMBER", "Palermo", "BYRADIUS", 1, "m"),
     "ERR syntax error"),
    (("GEOSEARCH", "g", "BYBOX", 1, 1, "m", "BYRADIUS", 1, "m"), "ERR syntax error"),
    (("geosearch", "g", "FROMLONLAT", 0, 0, "ASC", "WITHDIST"),
     "ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch"),
    (("GeoSearchStore", "t", "g", "BYRADIUS", 1, "m", "ASC", "DESC"),
     "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GeoSearchStore"),
    (("GEOSEARCHSTORE", "t", "g", "FROMLONLAT", 0, 0, "BYRADIUS", 1, "m", "WITHHASH"),
     "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options")])
def test_refusals_change_nothing(sicily, argv, text):
    assert sicily.error(*argv) == text
    assert sicily.effects(*argv) == 0


def test_wrong_types(c):
    c("SET", "k", "v")
    for argv in [("GEOADD", "k", 0, 0, "a"), ("GEOPOS", "k", "a"), ("GEOHASH", "k", "a"),
                 ("GEODIST", "k", "a", "b"), ("GEORADIUS", "k", 0, 0, 1, "m"),
                 ("GEOSEARCH", "k", "FROMLONLAT", 0, 0, "BYRADIUS", 1, "m"),
                 ("GEOSEARCHSTORE", "t", "k", "FROMLONLAT", 0, 0, "BYRADIUS", 1, "m")]:
        assert c.error(*argv).startswith("WRONGTYPE")


# ---- the edges of the map ------------------------------------------------------------------------

def test_corners_of_the_map(c):
    """The eastern and northern edges are cells of their own, one beyond the last."""
    for lon in (-180, 0, 180):
        for lat in (-NORTH, 0, NORTH):
            c("GEOADD", "g", lon, lat, f"{lon} {lat}")
    assert c("ZSCORE", "g", f"-180 {-NORTH}") == b"0"
    # 2^53 + 2^52: above 52 bits
    assert c("ZSCORE", "g", f"180 {NORTH}") == b"13510798882111488"
    for m in c("ZRANGE", "g", 0, -1):
        lon, lat = map(float, m.split())
        [[x, y]] = c("GEOPOS", "g", m)
        assert abs(float(x) - lon) < 3e-6 and abs(float(y) - lat) < 2e-6
        assert m in c("GEOSEARCH", "g", "FROMMEMBER", m, "BYRADIUS", 1, "m")


def test_a_search_goes_across_the_antimeridian(c):
    c("GEOADD", "g", 179.99, 10, "west of it", -179.99, 10, "east of it", 0, 10, "far")
    for lon in (179.995, -179.995):
        assert (sorted(c("GEOSEARCH", "g", "FROMLONLAT", lon, 10, "BYRADIUS", 5, "km"))
                == [b"east of it", b"west of it"])
        assert (sorted(c("GEOSEARCH", "g", "FROMLONLAT", lon, 10, "BYBOX", 5, 5, "km"))
                == [b"east of it", b"west of it"])


def test_opposite_places_are_half_around_the_earth_apart(c):
    """Here rounding makes the haversine 1 + 2^-52, more than any arc has."""
    c("GEOADD", "g", "-65.99712878465652", "-62.63201312891247", "a", "114.00287121534348",
      "62.63201312891246", "b")
    assert c("GEODIST", "g", "a", "b", "km") == b"20020.7340"
    assert abs(20020.7340 - math.pi * 6372.797560856) < 1e-4


def test_scores_that_no_geoadd_made(c):
    """Any score is some place: what it has above 52 bits is cut off by the map, what it has below 1
    is not looked at."""
    c("ZADD", "g", "-1", "minus", "0.5", "half", "1e300", "big", "-1e300", "small", "inf", "inf",
      "9007199254740993", "odd")
    for m in c("ZRANGE", "g", 0, -1):
        [[x, y]] = c("GEOPOS", "g", m)
        assert abs(float(x)) <= 180 and abs(float(y)) <= NORTH
    assert (c("GEOSEARCH", "g", "FROMMEMBER", "half", "BYRADIUS", 1, "m", "WITHHASH")
            == [[b"half", 0]])


def distance(a, b):
    (x, y), (u, v) = [tuple(map(math.radians, p)) for p in (a, b)]
    h = math.sin((v - y) / 2) ** 2 + math.cos(y) * math.cos(v) * math.sin((u - x) / 2) ** 2
    return 2 * 6372797.560856 * math.asin(min(1, math.sqrt(h)))


def test_circles_against_a_walk_over_all_places(c):
    """Away from the poles, where the nine cells are not promised to cover."""
    rng = random.Random(8)
    places = {b"%d" % i: (rng.uniform(-180, 180), rng.uniform(-70, 70)) for i in range(2000)}
    for m, (lon, lat) in places.items():
        c("GEOADD", "g", repr(lon), repr(lat), m)
    for _ in range(100):
        at, radius = (rng.uniform(-175, 175), rng.uniform(-60, 60)), 10 ** rng.uniform(4, 6)
        away = {m: distance(at, p) for m, p in places.items()}
        if any(abs(d - radius) < 10 for d in away.values()):
            continue
        found = c("GEOSEARCH", "g", "FROMLONLAT", repr(at[0]), repr(at[1]), "BYRADIUS",
                  repr(radius), "m", "ASC")
        inside = sorted((d, m) for m, d in away.items() if d < radius)
        assert sorted(found) == sorted(m for _, m in inside)
        assert all(a <= b + 10 for a,
                   b in zip([away[m] for m in found], [away[m] for m in found][1:]))
        for most in (1, 3, len(found) // 2 + 1):
            assert (c("GEOSEARCH", "g", "FROMLONLAT", repr(at[0]), repr(at[1]), "BYRADIUS",
                      repr(radius), "m", "COUNT", most) == found[:most])
            assert (c("GEOSEARCH", "g", "FROMLONLAT", repr(at[0]), repr(at[1]), "BYRADIUS",
                      repr(radius), "m", "COUNT", most, "DESC") == found[::-1][:most])


# ---- beside redis-server -------------------------------------------------------------------------

def longitude(rng):
    return rng.choice([rng.uniform(-180, 180), rng.uniform(179, 180), rng.uniform(-180, -179),
                       rng.gauss(0, 1e-3), 180, -180, 0])


def latitude(rng):
    return rng.choice([rng.uniform(-NORTH, NORTH), rng.uniform(84, NORTH), -rng.uniform(84, 85),
                       rng.gauss(0, 1e-3), NORTH, -NORTH])


def random_search(rng, members):
    at = rng.choice([["FROMMEMBER", rng.randrange(members)],
                     ["FROMLONLAT", repr(longitude(rng)), repr(latitude(rng))]])
    unit, metres = rng.choice([("m", 1), ("km", 1000), ("ft", 0.3), ("mi", 1609)])
    size = [repr(10 ** rng.uniform(-2, 7.5) / metres) for _ in range(2)]
    shape = rng.choice([["BYRADIUS", size[0], unit], ["BYBOX", *size, unit]])
    ends = rng.choice([[], ["ASC"], ["DESC"], ["COUNT", 3, "ANY"], ["COUNT", 20, "ANY", "DESC"]])
    return ["GEOSEARCH", "g", *at, *shape, "WITHDIST", "WITHCOORD", "WITHHASH", *ends]


@pytest.mark.parametrize("seed", range(12))
def test_every_digit_is_that_of_redis(reference, seed):
    """Clusters of places of every width, all over the map and at its edges; searches from 1 cm to
    around the earth."""
    rng = random.Random(seed)
    ours = Local()
    centre, spread = (longitude(rng), latitude(rng)), rng.choice([1e-4, 1e-2, 1, 10])
    places = []
    while len(places) < 200:
        x, y = ((longitude(rng), latitude(rng)) if rng.random() < 0.5
                else (rng.gauss(centre[0], spread), rng.gauss(centre[1], spread)))
        if abs(x) <= 180 and abs(y) <= NORTH:
            places += [(repr(x), repr(y))]
    calls = [["GEOADD", "g", *[a for i, (x, y) in enumerate(places) for a in (x, y, i)]],
             ["ZRANGE", "g", 0, -1, "WITHSCORES"],
             ["GEOPOS", "g", *range(200)], ["GEOHASH", "g", *range(200)]]
    calls += [["GEODIST", "g", rng.randrange(200), rng.randrange(200),
               rng.choice(["m", "km", "ft", "mi"])] for _ in range(50)]
    calls += [random_search(rng, 200) for _ in range(100)]
    with reference.connect() as theirs:
        theirs("FLUSHALL")
        for argv in calls:
            theirs.send(*argv)
            assert ours(*argv) == theirs.raw(), argv


def test_the_order_of_finding_is_that_of_redis(reference):
    """Without ASC or DESC: cell by cell, here with places in all nine."""
    rng = random.Random(5)
    ours = Local()
    calls = [["GEOADD", "g",
              *[a for i in range(500) for a in (repr(rng.gauss(10, 3)), repr(rng.gauss(10, 3)),
                                                i)]]]
    calls += [["GEOSEARCH", "g", "FROMLONLAT", repr(rng.gauss(10, 2)), repr(rng.gauss(10, 2)),
               "BYRADIUS", repr(10 ** rng.uniform(3.5, 5.9)), "m"]
              for _ in range(200)]
    with reference.connect() as theirs:
        theirs("FLUSHALL")
        for argv in calls:
            theirs.send(*argv)
            assert ours(*argv) == theirs.raw(), argv


# ---- two replicas --------------------------------------------------------------------------------

def test_the_later_place_wins():
    a, b = Local("a"), Local("b")
    a("GEOADD", "g", *SICILY)
    sync(a, b)
    a("GEOADD", "g", 1, 1, "Palermo")
    b.later(5)
    b("GEOADD", "g", 2, 2, "Palermo")
    sync(a, b)
    assert a("ZSCORE", "g", "Palermo") == b("ZSCORE", "g", "Palermo")
    assert b"\r\n2.00000" in a("GEOPOS", "g", "Palermo")


def test_a_place_survives_a_concurrent_removal():
    a, b = Local("a"), Local("b")
    a("GEOADD", "g", *SICILY)
    sync(a, b)
    a("ZREM", "g", "Palermo")
    a("DEL", "g")
    b("GEOADD", "g", 13.361389, 38.115556, "Palermo")
    sync(a, b)
    assert a("ZRANGE", "g", 0, -1) == b("ZRANGE", "g", 0, -1) == b"*1\r\n$7\r\nPalermo\r\n"


def test_a_stored_search_replaces_what_was_seen():
    a, b = Local("a"), Local("b")
    a("GEOADD", "g", *SICILY)
    a("ZADD", "t", 1, "old")
    sync(a, b)
    a("GEOSEARCHSTORE", "t", "g", "FROMMEMBER", "Palermo", "BYRADIUS", 1, "km")
    b("ZADD", "t", 2, "new")
    sync(a, b)
    assert (a("ZRANGE", "t", 0, -1) == b("ZRANGE", "t", 0, -1)
            == b"*2\r\n$3\r\nnew\r\n$7\r\nPalermo\r\n")
    a.replica.check()
    b.replica.check()
