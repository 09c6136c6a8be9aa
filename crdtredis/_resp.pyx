# The RESP codec, one extension of several parts. Each part is resp/<part>.pxi with its contract in
# resp/<part>.pxd, and uses those above it:
#
#     numbers   doubles in text, exactly as Redis reads and writes them
#     parser    bytes of a client -> commands
#     writer    replies -> bytes
#     objects   replies that Python commands return, and the codec's face towards Python

include "resp/numbers.pxi"
include "resp/parser.pxi"
include "resp/writer.pxi"
include "resp/objects.pxi"
