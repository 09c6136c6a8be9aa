"""Random geo commands: few places, among them the corners of the map, and distances from nothing to
around the earth. Searches also meet sorted sets that were not made by GEOADD, whose scores are any
numbers. What is stored with COUNT is chosen by ANY: of places at the same distance Redis takes
any."""
from __future__ import annotations

from tests.compat.generators_zsets import ZSETS, score
from tests.compat.words import BAD_DOUBLES, BAD_INTEGERS, case, key

PLACES = ["g", "g", "g", "g2", "s", "{t}1"]
MEMBERS = ["Palermo", "Catania", "Agrigento", "edge1", "edge2", "a", "b", "c", "d", "e", "",
           "\0\xff"]
LONGITUDES = ["13.361389", "15.087269", "12.758489", "17.241510", "0", "-0", "180", "-180",
              "179.9999999", "-179.99", "90", "-90", "1e-7", "-122.4"]
LATITUDES = ["38.115556", "37.502669", "38.788135", "37.8", "0", "-0.0", "85.05112878",
             "-85.05112878", "85.0511", "-80.5", "66.5", "45", "1e-9"]
OUTSIDE = ["180.0001", "-181", "85.06", "-90.1", "1e300", "inf", "-inf", "1000000000000000000000"]
UNITS = ["m", "km", "ft", "mi"]
DISTANCES = ["0", "1", "100", "200", "1000", "56441.5", "5000", "5000000", "20000000", "1e9",
             "1e-5", "0.5", "inf", "300", "2500", "40"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def where(rng):
    return rng.choice(PLACES) if rng.random() < 0.9 else key(rng)


def member(rng):
    return rng.choice(MEMBERS).encode("latin-1")


def place(rng, bad=0.03):
    out = [rng.choice(LONGITUDES) if rng.random() < 0.6 else repr(rng.uniform(-180, 180)),
           rng.choice(LATITUDES) if rng.random() < 0.6 else repr(rng.uniform(-85, 85))]
    if rng.random() < bad:
        out[rng.randrange(2)] = rng.choice(OUTSIDE + BAD_DOUBLES)
    return out


def unit(rng):
    return (case(rng, rng.choice(UNITS)) if rng.random() < 0.97
            else rng.choice(["", "mm", "yd", "k", "km "]))


def distance(rng):
    return (rng.choice(DISTANCES) if rng.random() < 0.96
            else rng.choice(["-1", "-0.0", *BAD_DOUBLES]))


def _add(rng):
    out = ["GEOADD", where(rng)]
    if rng.random() < 0.3:
        out += [case(rng, rng.choice(["NX", "XX", "CH", "CH"]))
                for _ in range(rng.choice([1, 1, 2, 3]))]
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        out += [*place(rng, 0.01), member(rng)]
    return out if rng.random() < 0.96 else out + [rng.choice(["1", "x", "NX"])]


def _options(rng, *others):
    out = []
    for word in rng.sample(["WITHDIST", "WITHHASH", "WITHCOORD", "ASC", "DESC"],
                           rng.choice([0, 0, 1, 2, 3])):
        out.append([case(rng, word)])
    if rng.random() < 0.4 and not others:
        out.append([case(rng, "COUNT"), rng.choice(["1", "2", "3", "100"]) if rng.random() < 0.95
                    else rng.choice(["0", "-1", *BAD_INTEGERS])])
        if rng.random() < 0.4:
            out.append([case(rng, "ANY")])
    out += [o for o in others if rng.random() < 0.5]
    if rng.random() < 0.03:
        out.append([rng.choice(["x", "", "COUNT", "STORE", "STOREDIST", "ANY", "BYBOX",
                                "FROMMEMBER", "WITHSCORES"])])
    rng.shuffle(out)
    return [word for o in out for word in o]


def _stored(rng):
    return _options(rng, [case(rng, rng.choice(["STORE", "STOREDIST"])), where(rng)])


def _radius(rng):
    name = rng.choice(["GEORADIUS", "GEORADIUS", "GEORADIUS_RO"])
    return [name, where(rng), *place(rng), distance(rng), unit(rng),
            *(_stored(rng) if rng.random() < 0.3 else _options(rng))]


def _by_member(rng):
    name = rng.choice(["GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"])
    return [name, where(rng), member(rng), distance(rng), unit(rng),
            *(_stored(rng) if rng.random() < 0.3 else _options(rng))]


def _area(rng):
    out = [rng.choice([[case(rng, "FROMMEMBER"), member(rng)],
                       [case(rng, "FROMLONLAT"), *place(rng)]]),
           rng.choice([[case(rng, "BYRADIUS"), distance(rng), unit(rng)],
                       [case(rng, "BYBOX"), distance(rng), distance(rng), unit(rng)]])]
    if rng.random() < 0.05:
        out.append(rng.choice([["FROMMEMBER", member(rng)], ["FROMLONLAT", *place(rng)],
                               ["BYRADIUS", "1", "m"], ["BYBOX", "1", "1", "m"]]))
    return out if rng.random() < 0.97 else out[:-1]


def _search(rng):
    parts = [*_area(rng), _options(rng)]
    rng.shuffle(parts)
    return ["GEOSEARCH", where(rng), *[word for p in parts for word in p]]


def _store(rng):
    out = ["GEOSEARCHSTORE", where(rng), where(rng), *[word for p in _area(rng) for word in p]]
    if rng.random() < 0.3:
        out += [case(rng, "COUNT"), rng.choice(["1", "2", "3"]), "ANY"]
    return out + rng.choice([[], [], ["STOREDIST"], ["ASC"], ["DESC"], ["WITHDIST"], ["ANY"],
                             ["STORE", "k"]])


def _keys(rng):
    kind = rng.choice([_radius, _by_member, _search, _store, _stored])
    argv = (["GEORADIUS", where(rng), *place(rng), "1", "m", *_stored(rng)] if kind is _stored
            else kind(rng))
    return ["COMMAND", rng.choice(["GETKEYS", "GETKEYS", "GETKEYSANDFLAGS"]), *argv]


COMMANDS = [
    _add, _add, _add, _add, _add, _radius, _radius, _by_member, _by_member, _search, _search,
    _search, _search, _store, _store, _keys,
    lambda r: ["GEOPOS", where(r), *[member(r) for _ in range(r.choice([0, 1, 1, 3]))]],
    lambda r: ["GEOHASH", where(r), *[member(r) for _ in range(r.choice([0, 1, 1, 3]))]],
    lambda r: ["GEODIST", where(r), member(r), member(r), *([unit(r)] if r.random() < 0.6 else []),
               *(["x"] if r.random() < 0.03 else [])],
    lambda r: ["ZADD", where(r), score(r), member(r),
               repr(r.choice([-1.0, 0.5, 2.0**52, 2.0**53, 1e15, 3.4e15, 2.0**63, 1e19, 1e20,
                              -1e19])), member(r)],
    lambda r: ["ZSCORE", r.choice(ZSETS + PLACES), member(r)],
    lambda r: ["ZREM", where(r), member(r)],
    lambda r: r.choice([["GEOADD", "g", "1"], ["GEOADD", "g"], ["GEOADD", "g", "NX", "CH", "NX"],
                        ["GEODIST", "g", "a"], ["GEOPOS"], ["GEOHASH"],
                        ["GEOSEARCH", "g"], ["GEOSEARCHSTORE", "g", "g"],
                        ["GEORADIUS", "g", "1", "1", "1"], ["GEORADIUSBYMEMBER", "g", "a", "1"]]),
]
