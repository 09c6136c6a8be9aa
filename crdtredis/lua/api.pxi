# Where the Lua VM comes from.
#
# No Lua source stands in this repository. The wheel of the package lupa carries LuaJIT 2.1 as an
# extension module of Python that exports Lua's C API; the module is opened as a plain shared object
# and its functions are called without Python and without the GIL. lupa's own Python code is never
# imported. LuaJIT is chosen before the PUC 5.1 of the same wheel: it is faster with its compiler
# off, has `bit`, and does not have the known overflows of 5.1.5.
#
# An error in Lua unwinds the C frames between its origin and the nearest protected call. LuaJIT
# does so by the unwind tables that every C compiler writes for x86-64 and AArch64; nothing in
# between runs. So no function here that calls Lua may own memory, hold the GIL or a reference.

from libc.stddef cimport size_t
from libc.stdint cimport (INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t,
                          uint64_t)
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc, realloc, strtod
from libc.string cimport memchr, memcmp, memcpy, memset, strchr, strlen

import glob
import importlib.util
import os

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *path, int flags)
    void *dlsym(void *handle, const char *name)
    char *dlerror()
    int RTLD_NOW
    int RTLD_LOCAL

cdef LuaApi lua
cdef bint lua_is_open = False

# In the order of LuaApi's fields.
NAMES = """
    lua_newstate lua_close lua_atpanic lua_getallocf luaJIT_setmode lua_sethook lua_getstack
    lua_getinfo lua_gc lua_cpcall lua_pcall lua_call lua_error luaL_loadbufferx lua_loadx
    lua_gettop lua_settop lua_pushvalue lua_remove lua_insert lua_replace lua_checkstack lua_type
    lua_typename lua_isnumber lua_tonumber lua_toboolean lua_tolstring lua_touserdata
    lua_topointer lua_objlen lua_pushnil lua_pushnumber lua_pushboolean lua_pushlstring
    lua_pushstring lua_pushcclosure lua_pushlightuserdata lua_newuserdata lua_createtable
    lua_gettable lua_getfield lua_setfield lua_rawget lua_rawgeti lua_rawset lua_rawseti
    lua_getmetatable lua_setmetatable lua_setfenv lua_next lua_concat luaL_ref luaL_unref
    luaL_where luaL_argerror luaL_checktype luaL_checkany luaL_checknumber luaL_checklstring
    luaL_getmetafield luaopen_base luaopen_string luaopen_table luaopen_math luaopen_os
    luaopen_bit luaopen_ffi
""".split()


cdef int open_lua() except -1:
    cdef void *handle
    cdef void *found
    cdef void **slots = <void**>&lua
    cdef bytes path, name
    cdef int i
    global lua_is_open
    if lua_is_open:
        return 0
    path = os.fsencode(lua_path())
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)
    if handle == NULL:
        raise RuntimeError(f"scripts: {dlerror().decode('utf-8', 'replace')}")
    assert sizeof(LuaApi) == len(NAMES) * sizeof(void*)
    for i, text in enumerate(NAMES):
        name = text.encode()
        found = dlsym(handle, name)
        if found == NULL:
            raise RuntimeError(f"scripts: {path.decode()} does not export {text}")
        slots[i] = found
    lua_is_open = True
    return 0


def lua_path() -> str:
    """The file of LuaJIT 2.1 in the package lupa."""
    spec = importlib.util.find_spec("lupa")
    for place in spec.submodule_search_locations if spec is not None else ():
        for path in sorted(glob.glob(os.path.join(glob.escape(place), "luajit21*.so"))):
            return path
    raise RuntimeError("scripts: they need the package lupa, with its module luajit21")
