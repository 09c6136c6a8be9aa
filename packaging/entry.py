"""What the executable runs."""
import sys

from crdtredis.cli import main

sys.exit(main())
