"""Arguments at the limits of what numbers can be, and commands that take them.

In a command R stands for a real number, I for an integer, O for an offset into a string, D for what
RESTORE takes.
"""
from __future__ import annotations

from tests.commands.run import NOW, Client

MOST, LEAST = 2**63 - 1, -2**63
TINY, HUGE = "1e-4940", "1.1e4932"
REALS = ["0", "-0", "0.1", TINY, f"-{TINY}", HUGE, f"-{HUGE}", "1e-4951", "3.7e-4951", "inf",
         "-inf", "nan", "1e5000", "1e-5000", "4.9e-324",
         "1.8e308", "9223372036854775808", "-9223372036854775809", "0x1p-16445", "1e20"]
WHOLES = ["0", "1", "-1", str(MOST), str(LEAST), str(MOST + 1), str(LEAST - 1), "9223372036854775",
          "-9223372036854775", str(NOW), str(-NOW), str(1 << 29),
          str((1 << 32) - 1), str(1 << 61), "x", "1e3"]
# none that makes a value of megabytes
OFFSETS = ["0", "7", "-1", "x", str(MOST), str(LEAST), str(MOST + 1), str(1 << 33), str(1 << 61)]
COMMANDS = [
    "INCRBYFLOAT k R", "HINCRBYFLOAT h f R", "ZINCRBY z R m", "ZADD z INCR R m", "ZADD z R m",
    "ZADD z R m R n", "GEOADD g R R p",
    "ZUNIONSTORE s 2 z z WEIGHTS R R", "ZUNIONSTORE s 2 z zz WEIGHTS R R AGGREGATE MAX",
    "ZINTERSTORE s 2 z z WEIGHTS R R",
    "ZRANGESTORE s z R R BYSCORE", "ZREMRANGEBYSCORE z R R",
    "GEOSEARCHSTORE s g FROMLONLAT 0 0 BYRADIUS R km STOREDIST", "SET k R",
    "INCRBY k I", "DECRBY k I", "HINCRBY h f I", "EXPIRE k I", "PEXPIRE h I", "EXPIREAT k I",
    "PEXPIREAT z I", "PEXPIREAT k I GT",
    "SET k v EX I", "SET k v PX I", "SET k v EXAT I", "SET k v PXAT I", "SETEX k I v",
    "PSETEX k I v", "GETEX k EX I", "GETEX k PXAT I",
    "SETRANGE k O v", "SETBIT k O 1", "BITFIELD k SET i64 O I", "BITFIELD k INCRBY i64 0 I",
    "BITFIELD k OVERFLOW SAT INCRBY u8 O I",
    "LSET l I v", "LTRIM l I I", "LREM l I x", "LINSERT l BEFORE x R", "LPOP l I", "SPOP e I",
    "ZPOPMIN z I", "ZREMRANGEBYRANK z I I",
    "LMOVEM l l LEFT RIGHT COUNT I OBO", "LMOVEM l m LEFT LEFT EXACTLY I BULK",
    "LMPOP I l LEFT", "ZMPOP 1 z MAX COUNT I", "SORT l STORE s LIMIT I I", "RESTORE r I D",
    "RESTORE r I D ABSTTL", "RESTORE r I D REPLACE IDLETIME I",
    "MOVE k I", "COPY k kk DB I", "SWAPDB I I",
]
BEFORE = {
    "nothing": [],
    "small": ["INCRBY k 5", "HINCRBY h f 5", "ZADD z 1 m", "GEOADD g 1 1 p", "RPUSH l x 2 3",
              "SADD e a b"],
    "extreme": [f"INCRBYFLOAT k {HUGE}", f"HINCRBYFLOAT h f {TINY}", "ZADD z inf m",
                "ZADD zz -inf m", "GEOADD g -180 -85 p", f"RPUSH l {LEAST} x nan", "SADD e inf nan",
                f"PEXPIREAT h {MOST}"],
    "limits": [f"INCRBY k {MOST}", f"HINCRBY h f {LEAST}", "ZADD z -1.7e308 m", "ZADD zz 1.7e308 m",
               f"PEXPIREAT k {MOST}", f"PEXPIREAT z {MOST}"],
    "fraction": ["SET k -1.1e4932", f"HSET h f -{TINY}", "ZINCRBY z 0.1 m", "ZINCRBY z 0.2 m",
                 "ZADD zz 4.9e-324 m", "RPUSH l 0.1"],
}


def choices(command: str) -> list[list]:
    """For each word of the command what may stand there."""
    c = Client("d")
    c("ZADD", "k", "1.5", "m", "inf", "n")
    return [{"R": REALS, "I": WHOLES, "O": OFFSETS, "D": [c("DUMP", "k")]}.get(w, [w])
            for w in command.split()]
