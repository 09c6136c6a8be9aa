"""crdtredis: an active-active Redis. See README.md for the reading order of the source."""

__version__ = "0.1.0"
# What clients are told to expect: the Redis whose commands, replies and errors these are.
REDIS_VERSION = "7.2.4"
