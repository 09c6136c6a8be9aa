"""`python -m crdtredis` is `crdt-redis`."""
import sys

from crdtredis.cli import main

if __name__ == "__main__":
    sys.exit(main())
