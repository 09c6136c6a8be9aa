"""crdtredis: an active-active Redis. See README.md for the reading order of the source."""

__version__ = "0.1.0"
