import pytest

from crdtredis._lua import Scripts

SHA = b"f" * 40


@pytest.fixture
def run():
    """run(text, keys, args, resp=2, call=None): the reply's bytes. A text that does not compile
    gives Lua's message."""
    vms = {}

    def run(text, keys=(), args=(), resp=2, call=None, **options):
        vm = vms.setdefault("vm", Scripts(call=call, **options))
        try:
            script = vm.load(text.encode() if isinstance(text, str) else text)
        except ValueError as e:
            return str(e)
        try:
            return vm.run(script, keys=list(keys), args=list(args), resp=resp, sha=SHA)
        finally:
            vm.drop(script)
    return run


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def value(run):
    """value(expression): what tostring shows of it; an error as its text, without the place."""
    def value(text):
        reply = run(f"local r = {text}\nreturn tostring(r)")
        if isinstance(reply, str):
            return reply
        if reply.startswith(b"-"):
            return reply[1:].split(b" script: ")[0].decode("utf-8", "replace")
        return reply.split(b"\r\n", 1)[1][:-2].decode("latin-1")
    return value
