# Scripts for Python: tests and tools use them, the server has its own host.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize


cdef class Scripts:
    """A VM.

    call        callable(argv: list[bytes], resp) -> bytes of RESP, what redis.call gets
    tick        callable() -> bool: shall the script that runs end? Asked from `patience` ms on
    most        bytes that scripts may hold together
    """
    cdef Vm *vm
    cdef object call
    cdef object tick
    cdef readonly list notes
    cdef bytes reply
    cdef public int64_t patience
    cdef dict lines

    def __cinit__(self, call=None, tick=None, most=64 << 20, patience=0):
        cdef Host host
        self.call = call
        self.tick = tick
        self.notes = []
        self.patience = patience
        self.lines = {}
        memset(&host, 0, sizeof(host))
        host.self = <void*>self
        host.call = python_call
        host.tick = python_tick
        host.note = python_note
        host.allowed = NULL
        self.vm = vm_new(most, host)

    def __dealloc__(self):
        vm_free(self.vm)

    @property
    def memory(self) -> int:
        return self.vm.used

    def load(self, bytes text) -> int:
        """A reference for run(). ValueError with Lua's own text."""
        cdef int ref = load_script(self.vm, text, len(text), b"@user_script")
        if ref < 0:
            raise ValueError(self.vm.error[:self.vm.error_n].decode("utf-8", "replace"))
        self.lines[ref] = text.strip().count(b"\n") + 1
        return ref

    def run(self, int ref, keys=(), args=(), int resp=2, bytes sha=b"f" * 40) -> bytes:
        """The reply."""
        cdef Reply out
        cdef list all = list(keys) + list(args)
        cdef Span *spans = <Span*>malloc(sizeof(Span) * (<size_t>len(all) + 1))
        cdef bytes arg
        cdef const char *digits = sha
        cdef int i
        cdef int nkeys = <int>len(keys)
        cdef int nargs = <int>len(args)
        memset(&out, 0, sizeof(out))
        out.resp = resp
        for i, arg in enumerate(all):
            spans[i] = span(PyBytes_AS_STRING(arg), <size_t>len(arg))
        self.vm.due = steady_now() + self.patience if self.tick is not None else INT64_MAX
        self.vm.single_line = self.lines[ref] == 1
        with nogil:
            run_script(self.vm, ref, digits, spans, nkeys, spans + nkeys, nargs, &out)
        free(spans)
        try:
            return PyBytes_FromStringAndSize(out.buf.p, <Py_ssize_t>out.buf.n)
        finally:
            buffer_free(&out.buf)

    def drop(self, int ref):
        drop_script(self.vm, ref)


def sha1(bytes text) -> bytes:
    cdef char out[41]
    sha1_hex(text, len(text), out)
    return out[:40]


cdef void python_call(void *self, Vm *vm, Span *argv, int argc, Span *reply) noexcept with gil:
    cdef Scripts s = <Scripts>self
    cdef int i
    try:
        s.reply = s.call([argv[i].p[:argv[i].n] for i in range(argc)], vm.resp)
    except Exception as e:
        s.reply = f"-ERR {e}\r\n".encode()
    reply[0] = span(PyBytes_AS_STRING(s.reply), <size_t>len(s.reply))


cdef int python_tick(void *self, int64_t now) noexcept with gil:
    try:
        return ENDS_KILLED if (<Scripts>self).tick() else ENDS_NOT
    except Exception:
        return ENDS_KILLED


cdef void python_note(void *self, int level, const char *p, size_t n) noexcept with gil:
    (<Scripts>self).notes.append((level, p[:n]))
