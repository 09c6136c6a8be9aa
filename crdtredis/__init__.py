"""crdtredis: an active-active Redis. See README.md for the reading order of the source."""

__version__ = "0.1.0"
# What clients are told to expect. All types and commands of Redis 7.4 are here; from 8 on one would
# expect those of its modules, too (vectors, JSON, search), which are not.
REDIS_VERSION = "7.4.0"
