"""Replication between replicas, in the sync thread. From the bottom:

    wire     bodies and clocks as bytes            (pure)
    plan     what to send to whom, and when        (pure)
    oplog    the log as peers are served with it: memory and segments
    waiters  who waits for how many replicas       (pure)
    resolver host names to addresses, in threads of their own
    delivering  who gives out an entry of a consumer group (pure)
    consumers   what replicas say about that
    flow     bodies on their way: bounds, time limits, large ops in parts
    stream   pushes and replies as frames on one long-lived connection
    runtime  what all that follow share: the settings in force, the HTTP client
    local    who this process is among the replicas
    tail     the end of the log: from the engine to the peers, from the peers to the engine
    registry the peers there are, what they have, and who waits for that
    sessions what other replicas ask: handshakes, pushes, pulls
    peer     the conversation with one peer
    service  the thread itself, and what the rest of the server may ask of it

The *_pb2 modules are generated from proto/ and committed, so that nobody needs the generator to
build. It must be an old one, for generated code runs with its own and later versions of the
protobuf library only, and pyproject.toml promises 6.30 and up:

    pip install "grpcio-tools==1.72.*"
    python -m grpc_tools.protoc -Iproto --python_out=crdtredis/replication \\
        proto/crdtredis.proto proto/replication.proto
"""
