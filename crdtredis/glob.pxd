# Glob patterns as Redis understands them (KEYS, SCAN MATCH, CONFIG GET, COMMAND LIST FILTERBY
# PATTERN). Header only.
#
#   *        any bytes, none included            ?        one byte
#   [abc]    one of these                        [a-z]    one byte of the range, either end first
#   [^abc]   any other                           \x       x itself, inside a class as well
#
# A class that is never closed ends with the pattern. A range compares bytes as signed, so that a
# pattern finds the same keys as on Redis built for x86. An empty text matches only the empty
# pattern: callers ask glob_is_all first, which makes a lone "*" find the empty key, too.
#
# Every element but the star takes exactly one byte. So it is enough to come back to the last star
# on a mismatch (an earlier one could only repeat what the last one tried on a shorter text): at
# most len(pattern) * len(text) steps, no recursion. Behind a star, memchr looks for a plain byte;
# what is plain to the pattern's end is compared with the text's.
#
# That may still be minutes. So whoever compares has `left`, the steps that it may take beyond
# GLOB_FREE for each byte of the texts, which honest patterns hardly reach; what would take more
# does not match. A command begins with GLOB_STEPS, for all that it compares.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp

cdef enum:
    GLOB_FREE = 4
    GLOB_STEPS = 1 << 24    # less than a tenth of a second


cdef inline signed char glob_fold(char c, int nocase) noexcept nogil:
    return c + 32 if nocase and c >= c'A' and c <= c'Z' else c


cdef inline size_t glob_one(const char *p, size_t n, size_t i, char text, int nocase,
                            int64_t most, int64_t *steps) noexcept nogil:
    """Where the pattern goes on after its element at i, which is no star, has taken the byte
    `text`; 0 when it does not match. What it looks at is added to `steps`; beyond `most` it does
    not look."""
    cdef signed char c = glob_fold(text, nocase), low, high
    cdef int invert, hit = 0
    if p[i] == c'?':
        return i + 1
    if p[i] != c'[':
        if p[i] == c'\\' and n - i >= 2:
            i += 1
        return i + 1 if glob_fold(p[i], nocase) == c else 0
    i += 1
    invert = i < n and p[i] == c'^'
    if invert:
        i += 1
    while i < n and p[i] != c']':
        steps[0] += 1
        if steps[0] > most:
            return 0
        if p[i] == c'\\' and n - i >= 2:
            i += 1
            low = high = glob_fold(p[i], nocase)
        elif n - i >= 3 and p[i + 1] == c'-':
            low = glob_fold(p[i], nocase)
            high = glob_fold(p[i + 2], nocase)
            i += 2
        else:
            low = high = glob_fold(p[i], nocase)
        if low <= c <= high or high <= c <= low:
            hit = 1
        i += 1
    if i < n:
        i += 1
    return i if hit != invert else 0


cdef inline int glob_is_plain(const char *p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if p[i] == c'*' or p[i] == c'?' or p[i] == c'[' or p[i] == c'\\':
            return 0
    return 1


cdef inline size_t glob_next(char c, const char *text, size_t at, size_t length, int nocase,
                             int64_t *steps) noexcept nogil:
    """Where the element of a pattern that begins with c can match at the earliest, from `at` on;
    `length`: nowhere. Looks at 16 bytes in a step."""
    cdef const char *found
    if nocase or c == c'?' or c == c'[' or c == c'\\' or at == length or text[at] == c:
        return at
    found = <const char*>memchr(text + at, c, length - at)
    if found == NULL:
        steps[0] += <int64_t>(length - at) >> 4
        return length
    steps[0] += (found - text - <int64_t>at) >> 4
    return <size_t>(found - text)


cdef inline int glob_compare(const char *p, size_t n, const char *text, size_t length, int nocase,
                             int64_t most, int64_t *steps) noexcept nogil:
    cdef size_t i = 0, at = 0, after_star = 0, tried = 0, goes_on
    while at < length and steps[0] <= most:
        steps[0] += 1
        if i < n and p[i] == c'*':
            while i < n and p[i] == c'*' and steps[0] <= most:
                i += 1
                steps[0] += 1
            if i == n:
                return 1
            # As much of the rest as the text is long: longer, it can't be the text's end.
            if not nocase and glob_is_plain(p + i, min(n - i, length - at + 1)):
                return (n - i <= length - at
                        and memcmp(text + length - (n - i), p + i, n - i) == 0)
            after_star = i
            at = tried = glob_next(p[i], text, at, length, nocase, steps)
            continue
        goes_on = glob_one(p, n, i, text[at], nocase, most, steps) if i < n else 0
        if goes_on:
            i = goes_on
            at += 1
        elif after_star:
            i = after_star
            at = tried = glob_next(p[i], text, tried + 1, length, nocase, steps)
        else:
            return 0
    if length:
        while i < n and p[i] == c'*' and steps[0] <= most:
            i += 1
            steps[0] += 1
    return at == length and i == n


cdef inline int glob_match(const char *p, size_t n, const char *text, size_t length, int nocase,
                           int64_t *left) noexcept nogil:
    """1 when the whole text matches the whole pattern."""
    cdef int64_t steps = -GLOB_FREE * <int64_t>length
    cdef int hit = glob_compare(p, n, text, length, nocase, left[0], &steps)
    if steps > left[0]:
        hit = 0
        steps = left[0]
    if steps > 0:
        left[0] -= steps
    return hit


cdef inline int glob_is_all(const char *p, size_t n) noexcept nogil:
    return n == 1 and p[0] == c'*'
