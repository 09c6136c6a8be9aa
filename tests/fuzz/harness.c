// The program that libFuzzer drives: Python inside, one function of tests/fuzz/targets.py as the target.
//
// Built and started by run.py, which sets FUZZ_TARGET and Python's paths. Coverage comes from the extension modules, which are compiled
// with -fsanitize=fuzzer-no-link; an exception that reaches this file is a finding like a crash.

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

static PyObject *target;

static void give_up(void) {
    PyErr_Print();
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    Py_InitializeEx(0);
    PyObject *module = PyImport_ImportModule("tests.fuzz.targets");
    if (!module || !(target = PyObject_GetAttrString(module, getenv("FUZZ_TARGET")))) give_up();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    PyObject *result = PyObject_CallFunction(target, "y#", (const char *)data, (Py_ssize_t)n);
    if (!result) give_up();
    Py_DECREF(result);
    return 0;
}
