# RESP2 and RESP3: the request parser and the reply writer. Pure bytes: knows no command, no socket,
# no keyspace.

include "resp/numbers.pxd"
include "resp/parser.pxd"
include "resp/writer.pxd"
include "resp/objects.pxd"
