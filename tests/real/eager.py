"""`crdt-redis` whose I/O threads are woken for a single call, so that few clients are enough."""
import sys

from crdtredis import cli, server


class Eager(server.Loop):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "io_threads":
            self.io_least = 1


if __name__ == "__main__":
    server.Loop = Eager
    sys.exit(cli.main())
