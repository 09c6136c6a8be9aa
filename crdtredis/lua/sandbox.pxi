# The sandbox: what a script can reach, and what it cannot change.
#
# The tables that all scripts share (_G, redis, string, cjson ...) cannot be written. LuaJIT has no
# read-only tables, so each is an empty table, a front, whose metatable leads to the real one and
# refuses writes; what goes around metatables (rawset, setmetatable, table.insert ...) is replaced
# by functions that refuse fronts. Nothing hands out a real table.
#
#   script -> _G (front) -> globals: KEYS, ARGV, tonumber, ... -> "nonexistent global variable"
#                              redis, string ... (fronts) -> the real tables
#
# Left out: io, os but os.clock, debug, package, require, dofile, loadfile, print, getfenv, setfenv,
# newproxy, jit, ffi and bytecode. `1LL` makes a 64-bit number of LuaJIT's ffi all the same; the
# metatable of these is emptied, so they can only be carried about.
#
# pcall answers the text of an error table, as Redis's does. collectgarbage cannot stop the
# collector.

from libc.math cimport floor

cdef enum:
    RANDOM_LOW = 0x330e         # the lowest bits of a seed

cdef uint64_t RANDOM_FIRST = <uint64_t>0x1234abcd330e     # what stands for a seed in the beginning
cdef uint64_t RANDOM_FACTOR = <uint64_t>0x5deece66d
cdef uint64_t RANDOM_MASK = ((<uint64_t>1) << 48) - 1

cdef const char *READ_ONLY = "Attempt to modify a readonly table"

# Runs with a table of the functions below as its argument; answers the front of the globals.
cdef const char *PRELUDE = b"""
local native = ...
local error, type, next, pairs, rawget, pcall = error, type, next, pairs, rawget, pcall
local getmetatable, setmetatable, tostring, sort = getmetatable, setmetatable, tostring, table.sort
local collectgarbage, select = collectgarbage, select
local concat, byte = table.concat, string.byte
local READ_ONLY = "Attempt to modify a readonly table"
local behind = {}       -- front -> real table
local gates = {}        -- front -> its metatable
local shown = {}        -- front -> what getmetatable shows of it

local function refuse() error(READ_ONLY, 2) end

local function front(real)
    local gate = {__index = real, __newindex = refuse, __metatable = false}
    local made = setmetatable({}, gate)
    behind[made], gates[made] = real, gate
    native.protect(made)
    return made
end

local function settle(ok, e, ...)
    if not ok and type(e) == "table" and not behind[e] then
        local text = rawget(e, "err")
        if type(text) == "string" then return false, text end
    end
    return ok, e, ...
end

local function handled(handler, ok, e, ...)
    if ok then return true, e, ... end
    return false, select(2, pcall(handler, e))
end

local function next_behind(t, k) return next(behind[t] or t, k) end
local function less(a, b) return a < b end

local globals = {}
for _, name in ipairs{"assert", "error", "ipairs", "rawequal", "select", "tonumber", "tostring",
                      "type", "unpack", "_VERSION"} do
    globals[name] = _G[name]
end
globals.rawset, globals.setmetatable = native.rawset, native.setmetatable
globals.pcall = function(...) return settle(pcall(...)) end
-- The handler runs after the error has unwound the stack: inside of the hook's error no hook runs,
-- and a handler that loops could not be ended.
globals.xpcall = function(f, handler)
    return handled(handler, pcall(f))
end
globals.next = function(t, k) return next(behind[t] or t, k) end
globals.rawget = function(t, k) return rawget(behind[t] or t, k) end
globals.pairs = function(t)
    if behind[t] then return next_behind, t, nil end
    return pairs(t)
end
globals.getmetatable = function(...)
    local t = ...
    if behind[t] then return shown[t] end
    return getmetatable(...)
end
globals.load = function(f, name)
    native.hurry()
    if type(f) == "function" then       -- not while it compiles: see load_text
        local parts = {}
        repeat
            local ok, piece = pcall(f)
            if not ok then return nil, piece end
            if type(piece) == "number" then piece = tostring(piece) end
            if piece ~= nil and type(piece) ~= "string" then
                return nil, "reader function must return a string"
            end
            parts[#parts + 1] = piece
        until piece == nil or piece == "" or byte(parts[1]) == 27      -- bytecode is refused
        f, name = concat(parts), name == nil and "=(load)" or name
    end
    return native.load(f, name)
end
globals.loadstring = globals.load
globals.gcinfo = function() return collectgarbage("count") end
globals.collectgarbage = function(what)
    if what == "count" then return collectgarbage("count") end
    if what == nil or what == "collect" or what == "step" then
        native.hurry()
        return collectgarbage(what)
    end
    if what == "stop" or what == "restart" or what == "setpause" or what == "setstepmul" then
        return 0
    end
    error("bad argument #1 to 'collectgarbage' (invalid option '" .. tostring(what) .. "')", 2)
end

local function copy(t, names)
    local made = {}
    for name in names:gmatch("%S+") do made[name] = t[name] end
    return made
end

local text = copy(string, "byte char dump format len lower rep reverse sub upper")
text.find, text.match = native.find, native.match
text.gmatch, text.gsub = native.gmatch, native.gsub
text.gfind = native.gmatch
local tables = copy(table, "concat foreach foreachi getn maxn")
tables.insert, tables.remove = native.insert, native.remove
tables.sort = function(t, f)
    native.guard(t)
    if f == nil then f = less end
    return sort(t, f)
end
tables.setn = function() error("'setn' is obsolete", 2) end
local maths = copy(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge "
    .. "ldexp log log10 max min modf pi pow rad sin sinh sqrt tan tanh")
maths.mod = math.fmod
maths.random, maths.randomseed = native.random, native.randomseed
local routines = copy(coroutine, "create resume running status wrap yield")

globals.string, globals.table, globals.math = front(text), front(tables), front(maths)
globals.coroutine, globals.bit = front(routines), front(bit)
globals.os = front{clock = os.clock}
for name, t in pairs(native.libraries) do globals[name] = front(t) end

local strings = getmetatable("")
strings.__index = text
strings.__metatable = front{__index = globals.string}
for _, number in ipairs{1LL, 1ULL, 1i} do
    local t = native.metatable(number)
    for k in pairs(t) do t[k] = nil end
    t.__metatable = false
end

local _G = front(globals)
globals._G = _G
shown[_G] = front{}
local nothing = {__index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end}
setmetatable(globals, nothing)
-- A library that is loaded sees nothing but a `redis` of its own.
local loading = setmetatable({redis = front(setmetatable(native.loading, nothing))}, nothing)
local function load_mode(on)
    gates[_G].__index = on and loading or globals
    behind[_G] = gates[_G].__index
end
return _G, globals, load_mode
"""


cdef void out_begin(Out *o, lua_State *L) noexcept nogil:
    o.L = L
    o.p = o.first
    o.n = 0
    o.cap = sizeof(o.first)
    lua.pushnil(L)
    o.slot = lua.gettop(L)


cdef char *out_need(Out *o, size_t more) noexcept nogil:
    cdef char *p
    cdef size_t cap
    if o.cap - o.n < more:
        cap = max(o.cap * 2, o.n + more)
        p = <char*>lua.newuserdata(o.L, cap)
        memcpy(p, o.p, o.n)
        lua.replace(o.L, o.slot)
        o.p = p
        o.cap = cap
    return o.p + o.n


cdef void out_push(Out *o) noexcept nogil:
    lua.pushlstring(o.L, o.p, o.n)


# ---- functions that replace those of Lua ---------------------------------------------------------

cdef void refuse_library(lua_State *L, int idx) noexcept nogil:
    if is_library(vm_of(L), lua.topointer(L, idx)):
        lua.pushstring(L, READ_ONLY)
        lua.error(L)


cdef int lua_protect(lua_State *L) noexcept nogil:
    """protect(table): it is one of the fronts."""
    cdef Vm *vm = vm_of(L)
    if vm.libraries_n == LIBRARIES:
        raise_text(L, "too many libraries")
    vm.libraries[vm.libraries_n] = lua.topointer(L, 1)
    vm.libraries_n += 1
    return 0


cdef int lua_guard(lua_State *L) noexcept nogil:
    lua.checktype(L, 1, LUA_TTABLE)
    refuse_library(L, 1)
    return 0


cdef int lua_hurry(lua_State *L) noexcept nogil:
    hurry(L, vm_of(L))
    return 0


cdef int load_text(lua_State *L) noexcept nogil:
    """load(text, name). An error that the hook raises while Lua compiles would leave the hook off
    for ever, so nothing of Lua runs meanwhile."""
    cdef Loading job
    cdef const char *name
    job.p = lua.checklstring(L, 1, &job.n)
    name = job.p if lua.type(L, 2) <= LUA_TNIL else lua.checklstring(L, 2, NULL)
    job.due = INT64_MAX
    job.begun = 0
    if lua.load(L, next_piece, &job, name, "t") == 0:
        return 1
    lua.pushnil(L)
    lua.insert(L, -2)
    return 2


cdef int lua_metatable(lua_State *L) noexcept nogil:
    """The real metatable, for the prelude alone."""
    if not lua.getmetatable(L, 1):
        lua.createtable(L, 0, 0)
    return 1


cdef int lua_rawset(lua_State *L) noexcept nogil:
    lua.checktype(L, 1, LUA_TTABLE)
    lua.checkany(L, 2)
    lua.checkany(L, 3)
    refuse_library(L, 1)
    lua.settop(L, 3)
    lua.rawset(L, 1)
    return 1


cdef int lua_setmetatable(lua_State *L) noexcept nogil:
    cdef int type = lua.type(L, 2)
    lua.checktype(L, 1, LUA_TTABLE)
    if type != LUA_TNIL and type != LUA_TTABLE:
        lua.argerror(L, 2, "nil or table expected")
    refuse_library(L, 1)
    if lua.getmetafield(L, 1, "__metatable"):
        raise_text(L, "cannot change a protected metatable")
    lua.settop(L, 2)
    lua.setmetatable(L, 1)
    return 1


cdef int lua_insert(lua_State *L) noexcept nogil:
    cdef int64_t n, at
    cdef int i
    cdef int top = lua.gettop(L)
    lua.checktype(L, 1, LUA_TTABLE)
    refuse_library(L, 1)
    n = <int64_t>lua.objlen(L, 1) + 1
    if n > 1 << 30:
        raise_text(L, "table is too large")
    if top == 2:
        lua.rawseti(L, 1, <int>n)
        return 0
    if top != 3:
        raise_text(L, "wrong number of arguments to 'insert'")
    at = whole(lua.checknumber(L, 2))
    if at > n:
        n = at
    if at < -1 << 30 or n > 1 << 30:
        raise_text(L, "position out of bounds")
    for i in range(<int>n, <int>at, -1):
        if (i & 0xffff) == 0:
            check_ending(L, vm_of(L))
        lua.rawgeti(L, 1, i - 1)
        lua.rawseti(L, 1, i)
    lua.rawseti(L, 1, <int>at)
    return 0


cdef int lua_remove(lua_State *L) noexcept nogil:
    cdef int64_t n, at
    cdef int i
    lua.checktype(L, 1, LUA_TTABLE)
    refuse_library(L, 1)
    n = <int64_t>lua.objlen(L, 1)
    at = n
    if lua.gettop(L) >= 2 and lua.type(L, 2) != LUA_TNIL:
        at = whole(lua.checknumber(L, 2))
    if not 1 <= at <= n or n > 1 << 30:
        return 0
    lua.rawgeti(L, 1, <int>at)
    for i in range(<int>at, <int>n):
        if (i & 0xffff) == 0:
            check_ending(L, vm_of(L))
        lua.rawgeti(L, 1, i + 1)
        lua.rawseti(L, 1, i)
    lua.pushnil(L)
    lua.rawseti(L, 1, <int>n)
    return 1


cdef int lua_random(lua_State *L) noexcept nogil:
    """The numbers of lrand48, as in Redis: the same ones behind the same seed."""
    cdef Vm *vm = vm_of(L)
    cdef int32_t low = 1, high
    cdef int n = lua.gettop(L)
    cdef double r
    vm.random = vm.random * RANDOM_FACTOR + 0xb & RANDOM_MASK
    r = <double>((vm.random >> 17) % 0x7fffffff) / 0x7fffffff
    if n == 0:
        lua.pushnumber(L, r)
        return 1
    if n > 2:
        raise_text(L, "wrong number of arguments")
    if n == 2:
        low = <int32_t>whole(lua.checknumber(L, 1))
    high = <int32_t>whole(lua.checknumber(L, n))
    if low > high:
        lua.argerror(L, n, "interval is empty")
    lua.pushnumber(L, floor(r * (<double>high - low + 1)) + low)
    return 1


cdef int lua_randomseed(lua_State *L) noexcept nogil:
    vm_of(L).random = <uint64_t><uint32_t>whole(lua.checknumber(L, 1)) << 16 | RANDOM_LOW
    return 0


# ---- building ------------------------------------------------------------------------------------

cdef void set_function(lua_State *L, const char *name, lua_CFunction f) noexcept nogil:
    lua.pushcclosure(L, f, 0)
    lua.setfield(L, -2, name)


cdef void open_library(lua_State *L, lua_CFunction f, const char *name) noexcept nogil:
    lua.pushcclosure(L, f, 0)
    lua.pushstring(L, name)
    lua.call(L, 1, 0)


cdef int build_sandbox(lua_State *L) noexcept nogil:
    cdef Vm *vm = vm_of(L)
    lua.setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF)
    open_library(L, lua.open_base, "")
    open_library(L, lua.open_string, "string")
    open_library(L, lua.open_table, "table")
    open_library(L, lua.open_math, "math")
    open_library(L, lua.open_os, "os")
    open_library(L, lua.open_bit, "bit")
    open_library(L, lua.open_ffi, "ffi")        # else a script opens it with a literal
    lua.settop(L, 0)
    if lua.loadbufferx(L, PRELUDE, strlen(PRELUDE), "=prelude", "t") != 0:
        return lua.error(L)
    lua.createtable(L, 0, 16)
    set_function(L, "protect", lua_protect)
    set_function(L, "guard", lua_guard)
    set_function(L, "hurry", lua_hurry)
    set_function(L, "load", load_text)
    set_function(L, "metatable", lua_metatable)
    set_function(L, "rawset", lua_rawset)
    set_function(L, "setmetatable", lua_setmetatable)
    set_function(L, "insert", lua_insert)
    set_function(L, "remove", lua_remove)
    set_function(L, "random", lua_random)
    set_function(L, "randomseed", lua_randomseed)
    set_function(L, "find", lua_find)
    set_function(L, "match", lua_match)
    set_function(L, "gmatch", lua_gmatch)
    set_function(L, "gsub", lua_gsub)
    lua.createtable(L, 0, 4)
    push_redis(L)
    lua.setfield(L, -2, "redis")
    push_json(L)
    lua.setfield(L, -2, "cjson")
    push_msgpack(L)
    lua.setfield(L, -2, "cmsgpack")
    push_struct(L)
    lua.setfield(L, -2, "struct")
    lua.setfield(L, -2, "libraries")
    lua.createtable(L, 0, 16)
    push_log(L)
    push_registering(L)
    lua.setfield(L, -2, "loading")
    lua.call(L, 1, 3)
    vm.ref_load_mode = lua.ref(L, LUA_REGISTRYINDEX)
    vm.ref_globals = lua.ref(L, LUA_REGISTRYINDEX)
    lua.replace(L, LUA_GLOBALSINDEX)
    lua.pushcclosure(L, handle_error, 0)
    vm.ref_handler = lua.ref(L, LUA_REGISTRYINDEX)
    return 0
