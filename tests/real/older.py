"""A replica of the version before members and full syncs, as far as others can tell: it speaks
version 2 of the protocol over real sockets, with the messages of then, and keeps what it is given
in a kernel.

What that version did not know it refuses here, and `refused` tells of it: operations on a database
beyond 15, frames of a kind that is no push, and paths. (Fields that it did not know it passed over,
as protobuf does.)
"""
from __future__ import annotations

import http.client
import random
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from crdtredis._core import Replica, batch_ranges, slice_batch
from crdtredis._engine import Executor
from crdtredis.clocks import Actor
from crdtredis.replication import crdtredis_pb2 as ops
from crdtredis.replication.wire import declarations
from crdtredis.storage.batch import declaration
from tests.real.cluster import free_port
from tests.respclient import decode

# Its messages: fields in the order of their numbers. For ever as they are.
SCHEMA = """
ClockEntry  actor:fixed64 seq:uint64
Hello       version:uint32 cluster:string replica:string epoch:uint64 process:fixed64 now:int64
            clock:ClockEntry* session:fixed64
Part        actor:fixed64 seq:uint64 size:uint64 at:uint64 told:uint32
Push        session:fixed64 known:uint64 part:Part
Pull        session:fixed64 clock:ClockEntry* limit:uint64 actors:fixed64* part:Part
Answer      clock:ClockEntry* version:uint64 waiting:uint64 more:bool part:Part pushes:uint64
Failure     code:uint32 text:string pushes:uint64
"""
VERSION = 2
CONTENT_TYPE = "application/x-crdt-redis"
MALFORMED, NO_SESSION = 1, 8
PUSH, ANSWER, FAILURE = 1, 2, 3         # kinds of frames
DATABASES = 16


def messages() -> dict:
    """{name: class}"""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="older.proto", package="older", syntax="proto3")
    message = None
    for word in SCHEMA.split():
        if ":" not in word:
            message = file.message_type.add(name=word)
            continue
        name, kind = word.split(":")
        f = message.field.add(name=name, number=len(message.field) + 1,
                              label=field.LABEL_REPEATED if "*" in kind else field.LABEL_OPTIONAL)
        kind = kind.rstrip("*")
        if kind[0].isupper():
            f.type, f.type_name = field.TYPE_MESSAGE, f".older.{kind}"
        else:
            f.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    found = pool.Add(file) or pool.FindFileByName(file.name)
    return {name: message_factory.GetMessageClass(d)
            for name, d in found.message_types_by_name.items()}


MESSAGES = messages()


class Refused(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def body(head, batch: bytes = b"") -> bytes:
    data = head.SerializeToString()
    return len(data).to_bytes(4, "little") + data + batch


def parse(name: str, data: bytes) -> tuple:
    size = int.from_bytes(data[:4], "little")
    return MESSAGES[name].FromString(data[4:4 + size]), data[4 + size:]


class Older:
    """refused: what it was sent and did not take. heard: its peers' ops, as it was pushed them.
    awake: cleared, it replies to nobody."""

    def __init__(self, name: str = "old") -> None:
        self.name, self.port = name, free_port()
        self.process = random.getrandbits(63) | 1
        self.replica = Replica(name, int(time.time() * 1000))
        self.executor = Executor(self.replica)
        self.session = self.executor.session()
        self.log: list[bytes] = []
        self.sessions: dict[int, str] = {}
        self.refused: list[str] = []
        self.heard: list[bytes] = []
        self.lock = threading.Lock()
        self.awake = threading.Event()
        self.awake.set()
        self.calls, self.stopping = 0, False
        self.caller: threading.Thread | None = None
        self._keep(self.replica.take_ops())
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.stopping = True
        self.awake.set()
        if self.caller is not None:
            self.caller.join()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def __call__(self, *argv):
        """A client's command."""
        with self.lock:
            self.replica.now = int(time.time() * 1000)
            reply = self.executor.execute(self.session, [str(a).encode() for a in argv])
            self._keep(self.replica.take_ops())
            return decode(reply)

    def digest(self) -> bytes:
        with self.lock:
            return self.replica.digest().encode()

    # ---- what it has -----------------------------------------------------------------------------

    def _keep(self, batch: bytes) -> None:
        if batch:
            self.log.append(batch)

    def _take(self, batch: bytes) -> None:
        for run in ops.Batch.FromString(batch).runs:
            for op in run.ops:
                if op.compact:
                    self.refused.append("effects in the shorter form")
                    raise Refused(MALFORMED, "the ops do not decode")
                for effect in op.effects:
                    if effect.db >= DATABASES:
                        self.refused.append(f"an op on database {effect.db}")
                        raise Refused(MALFORMED, "the ops do not decode")
        self.heard.append(batch)
        self.replica.now = int(time.time() * 1000)
        self.replica.receive(batch)
        self._keep(self.replica.take_ops())

    def _clock(self) -> list:
        return [MESSAGES["ClockEntry"](actor=a, seq=s) for a, s in self.replica.clock_ids().items()]

    def _hello(self, session: int = 0) -> tuple:
        hello = MESSAGES["Hello"](
            version=VERSION, cluster="default", replica=self.name, epoch=self.replica.epoch,
            process=self.process, now=int(time.time() * 1000), clock=self._clock(), session=session)
        return hello, declaration([Actor(*a) for a in self.replica.declared()])

    def _answer(self, **more):
        return MESSAGES["Answer"](clock=self._clock(), version=len(self.log), **more)

    # ---- what it is asked ------------------------------------------------------------------------

    def shaken(self, data: bytes) -> bytes:
        hello, declared = parse("Hello", data)
        if hello.version != VERSION:
            self.refused.append(f"version {hello.version}")
            raise Refused(4, "another version")
        for a in declarations(declared):
            self.replica.declare(a.replica, a.epoch)
        session = random.getrandbits(63) | 1
        self.sessions[session] = hello.replica
        return body(*self._hello(session))

    def pushed(self, data: bytes) -> bytes:
        head, batch = parse("Push", data)
        self._session(head.session)
        assert not head.HasField("part"), "no op here is so large"
        self._take(batch)
        return body(self._answer())

    def pulled(self, data: bytes) -> bytes:
        head, _ = parse("Pull", data)
        self._session(head.session)
        clock = {e.actor: e.seq for e in head.clock}
        batch = b"".join(slice_batch(b, clock) for b in self.log) if head.limit else b""
        told = self._hello()[1] if batch else b""
        return body(self._answer(), told + batch)

    def _session(self, key: int) -> None:
        if key not in self.sessions:
            raise Refused(NO_SESSION, "shake hands first")

    def _handler(older) -> type:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def log_message(self, *argv):
                pass

            def do_POST(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                work = {"/replication/handshake": older.shaken, "/replication/push": older.pushed,
                        "/replication/pull": older.pulled}.get(self.path)
                if work is None:
                    older.refused.append(self.path)
                    return self.send_error(404)
                older.awake.wait()
                try:
                    with older.lock:
                        status, out = 200, work(data)
                except Refused as e:
                    status, out = 400, body(MESSAGES["Failure"](code=e.code, text=str(e)))
                self.send_response(status)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            def do_GET(self):
                if self.path != "/replication/stream":
                    older.refused.append(self.path)
                    return self.send_error(404)
                self.close_connection = True
                try:
                    older._session(int(self.headers["X-Session"], 16))
                except Refused:
                    return self.send_error(409)
                self.send_response_only(101)
                self.send_header("Connection", "Upgrade")
                self.send_header("Upgrade", "crdt-redis")
                self.end_headers()
                pushes = 0
                while head := self.rfile.read(5):
                    size, kind = struct.unpack("<IB", head)
                    data = self.rfile.read(size - 1)
                    pushes += 1
                    if kind != PUSH:
                        older.refused.append(f"a frame of kind {kind}")
                        return None
                    try:
                        with older.lock:
                            _, batch = parse("Push", data)
                            if batch:
                                older._take(batch)
                            kind, out = ANSWER, older._answer(pushes=pushes)
                    except Refused as e:
                        kind, out = FAILURE, MESSAGES["Failure"](code=e.code, text=str(e),
                                                                 pushes=pushes)
                    out = body(out)
                    self.wfile.write(struct.pack("<IB", len(out) + 1, kind) + out)

        return Handler

    # ---- what it asks ----------------------------------------------------------------------------

    def exchange(self, peer) -> None:
        """Shake hands with a server, give it what it lacks, and take what it has. Refused."""
        hello, declared = self._ask(peer, "handshake", body(*self._hello()), "Hello")
        assert hello.version == VERSION
        clock = {e.actor: e.seq for e in hello.clock}
        with self.lock:
            for a in declarations(declared):
                self.replica.declare(a.replica, a.epoch)
            batch = b"".join(slice_batch(b, clock) for b in self.log)
            push = body(MESSAGES["Push"](session=hello.session), self._hello()[1] + batch)
            pull = body(MESSAGES["Pull"](session=hello.session, clock=self._clock(),
                                         limit=1 << 20))
        if batch_ranges(batch):
            self._ask(peer, "push", push, "Answer")
        _, batch = self._ask(peer, "pull", pull, "Answer")
        with self.lock:
            self._take(batch)

    def keep_calling(self, *peers) -> None:
        """From now on, until stop(); `calls` counts rounds."""
        def work() -> None:
            while not self.stopping:
                for peer in peers:
                    try:
                        self.exchange(peer)
                    except Refused as e:
                        self.refused.append(str(e))
                self.calls += 1
                time.sleep(0.05)

        self.caller = threading.Thread(target=work)
        self.caller.start()

    def _ask(self, peer, what: str, data: bytes, reply: str) -> tuple:
        c = http.client.HTTPConnection("127.0.0.1", peer.http_port, timeout=30)
        try:
            c.request("POST", f"/replication/{what}", data,
                      {"Content-Type": CONTENT_TYPE, "X-Replica": self.name})
            r = c.getresponse()
            data = r.read()
        finally:
            c.close()
        if r.status != 200:
            failure, _ = parse("Failure", data)
            raise Refused(failure.code, failure.text)
        return parse(reply, data)
