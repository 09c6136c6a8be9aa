#!/usr/bin/env bash
# The engine with I/O threads under ThreadSanitizer:   tests/sanitize_threads.sh [pytest arguments]
#
# Builds the modules into build/thread with CRDT_REDIS_BUILD=thread (gcc) and runs against those. Python itself is not instrumented, so
# the run-time library is preloaded; what it finds in Python and in libraries alone it does not report.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
build=build/thread
CRDT_REDIS_BUILD=thread "$python" setup.py -q build -j 2 --build-base $build --build-lib $build/lib
[ $# -gt 0 ] || set -- tests/engine/test_threads.py tests/engine/test_chaos.py tests/engine/test_loop.py tests/engine/test_pubsub.py
export CRDT_REDIS_IO_THREADS=${CRDT_REDIS_IO_THREADS:-3}
# A report in which an I/O thread stands ends this with an error. Others are left alone: tests look at counters, and set the time of a
# round, while the engine runs, and have several loops in one process, which share what is known of its memory.
rm -f $build/report.*
# The address space is not laid out at random: the library cannot cope with all of that. The package is imported before pytest puts the
# checkout, with the ordinary build, in front.
LD_PRELOAD="$(gcc -print-file-name=libtsan.so)" PYTHONMALLOC=malloc PYTHONPATH="$build/lib:." PYTHONDONTWRITEBYTECODE=1 \
TSAN_OPTIONS="log_path=$build/report exitcode=0 ignore_noninstrumented_modules=1 report_signal_unsafe=0" \
    setarch -R "$python" -P -c "
import sys, crdtredis._core, pytest
assert '$build' in crdtredis._core.__file__, crdtredis._core.__file__
sys.exit(pytest.main(sys.argv[1:]))" -q -p no:cacheprovider --capture=sys \
    --deselect tests/engine/test_loop.py::test_memory_returns_to_its_baseline \
    --deselect tests/engine/test_pubsub.py::test_confirmations_to_who_was_let_go_are_freed "$@"
cat $build/report.* 2>/dev/null | "$python" -c "
import sys
reports = [r for r in sys.stdin.read().split('=' * 18) if 'WARNING: ThreadSanitizer' in r]
found = [r for r in reports if \"'io_\" in r or 'io_main' in r]
print(*found, f'ThreadSanitizer: {len(found)} of {len(reports)} reports name an I/O thread')
sys.exit(bool(found))"
