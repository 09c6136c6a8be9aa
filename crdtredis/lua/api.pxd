# Lua's C API, as the functions of a shared object that is opened at run time.

cdef enum LuaConstant:
    LUA_REGISTRYINDEX = -10000
    LUA_GLOBALSINDEX = -10002
    LUA_MULTRET = -1
    LUA_MASKCOUNT = 8
    LUA_ERRMEM = 4
    LUA_GCCOLLECT = 2
    LUA_GCSTEP = 5
    LUAJIT_MODE_ENGINE = 0
    LUAJIT_MODE_OFF = 0

cdef enum LuaType:
    LUA_TNONE = -1
    LUA_TNIL = 0
    LUA_TBOOLEAN = 1
    LUA_TLIGHTUSERDATA = 2
    LUA_TNUMBER = 3
    LUA_TSTRING = 4
    LUA_TTABLE = 5
    LUA_TFUNCTION = 6

cdef extern from *:
    """
    typedef struct lua_State lua_State;
    """
    ctypedef struct lua_State:
        pass

cdef struct lua_Debug:
    int event
    const char *name
    const char *namewhat
    const char *what
    const char *source
    int currentline
    int nups
    int linedefined
    int lastlinedefined
    char short_src[60]
    int i_ci

ctypedef int (*lua_CFunction)(lua_State *L) noexcept nogil
ctypedef void *(*lua_Alloc)(void *ud, void *p, size_t osize, size_t nsize) noexcept nogil
ctypedef const char *(*lua_Reader)(lua_State *L, void *ud, size_t *n) noexcept nogil
ctypedef void (*lua_Hook)(lua_State *L, lua_Debug *ar) noexcept nogil

# Every function may jump out of the C function that calls it, but for those that this interface of
# Lua's documents as raising nothing: a caller holds nothing that must be freed.
cdef struct LuaApi:
    lua_State *(*newstate)(lua_Alloc f, void *ud) noexcept nogil
    void (*close)(lua_State *L) noexcept nogil
    lua_CFunction (*atpanic)(lua_State *L, lua_CFunction f) noexcept nogil
    lua_Alloc (*getallocf)(lua_State *L, void **ud) noexcept nogil
    int (*setmode)(lua_State *L, int idx, int mode) noexcept nogil
    int (*sethook)(lua_State *L, lua_Hook f, int mask, int count) noexcept nogil
    int (*getstack)(lua_State *L, int level, lua_Debug *ar) noexcept nogil
    int (*getinfo)(lua_State *L, const char *what, lua_Debug *ar) noexcept nogil
    int (*gc)(lua_State *L, int what, int data) noexcept nogil
    int (*cpcall)(lua_State *L, lua_CFunction f, void *ud) noexcept nogil
    int (*pcall)(lua_State *L, int nargs, int nresults, int errfunc) noexcept nogil
    void (*call)(lua_State *L, int nargs, int nresults) noexcept nogil
    int (*error)(lua_State *L) noexcept nogil
    int (*loadbufferx)(lua_State *L, const char *p, size_t n, const char *name,
                       const char *mode) noexcept nogil
    int (*load)(lua_State *L, lua_Reader next, void *ud, const char *name,
                const char *mode) noexcept nogil
    int (*gettop)(lua_State *L) noexcept nogil
    void (*settop)(lua_State *L, int idx) noexcept nogil
    void (*pushvalue)(lua_State *L, int idx) noexcept nogil
    void (*remove)(lua_State *L, int idx) noexcept nogil
    void (*insert)(lua_State *L, int idx) noexcept nogil
    void (*replace)(lua_State *L, int idx) noexcept nogil
    int (*checkstack)(lua_State *L, int n) noexcept nogil
    int (*type)(lua_State *L, int idx) noexcept nogil
    const char *(*typename)(lua_State *L, int type) noexcept nogil
    int (*isnumber)(lua_State *L, int idx) noexcept nogil
    double (*tonumber)(lua_State *L, int idx) noexcept nogil
    int (*toboolean)(lua_State *L, int idx) noexcept nogil
    const char *(*tolstring)(lua_State *L, int idx, size_t *n) noexcept nogil
    void *(*touserdata)(lua_State *L, int idx) noexcept nogil
    const void *(*topointer)(lua_State *L, int idx) noexcept nogil
    size_t (*objlen)(lua_State *L, int idx) noexcept nogil
    void (*pushnil)(lua_State *L) noexcept nogil
    void (*pushnumber)(lua_State *L, double v) noexcept nogil
    void (*pushboolean)(lua_State *L, int v) noexcept nogil
    void (*pushlstring)(lua_State *L, const char *p, size_t n) noexcept nogil
    void (*pushstring)(lua_State *L, const char *p) noexcept nogil
    void (*pushcclosure)(lua_State *L, lua_CFunction f, int n) noexcept nogil
    void (*pushlightuserdata)(lua_State *L, void *p) noexcept nogil
    void *(*newuserdata)(lua_State *L, size_t n) noexcept nogil
    void (*createtable)(lua_State *L, int narr, int nrec) noexcept nogil
    void (*gettable)(lua_State *L, int idx) noexcept nogil
    void (*getfield)(lua_State *L, int idx, const char *k) noexcept nogil
    void (*setfield)(lua_State *L, int idx, const char *k) noexcept nogil
    void (*rawget)(lua_State *L, int idx) noexcept nogil
    void (*rawgeti)(lua_State *L, int idx, int n) noexcept nogil
    void (*rawset)(lua_State *L, int idx) noexcept nogil
    void (*rawseti)(lua_State *L, int idx, int n) noexcept nogil
    int (*getmetatable)(lua_State *L, int idx) noexcept nogil
    int (*setmetatable)(lua_State *L, int idx) noexcept nogil
    int (*setfenv)(lua_State *L, int idx) noexcept nogil
    int (*next)(lua_State *L, int idx) noexcept nogil
    void (*concat)(lua_State *L, int n) noexcept nogil
    int (*ref)(lua_State *L, int t) noexcept nogil
    void (*unref)(lua_State *L, int t, int ref) noexcept nogil
    # luaL_where, luaL_argerror and the like
    void (*where)(lua_State *L, int level) noexcept nogil
    int (*argerror)(lua_State *L, int narg, const char *text) noexcept nogil
    void (*checktype)(lua_State *L, int narg, int type) noexcept nogil
    void (*checkany)(lua_State *L, int narg) noexcept nogil
    double (*checknumber)(lua_State *L, int narg) noexcept nogil
    const char *(*checklstring)(lua_State *L, int narg, size_t *n) noexcept nogil
    int (*getmetafield)(lua_State *L, int idx, const char *name) noexcept nogil
    int (*open_base)(lua_State *L) noexcept nogil
    int (*open_string)(lua_State *L) noexcept nogil
    int (*open_table)(lua_State *L) noexcept nogil
    int (*open_math)(lua_State *L) noexcept nogil
    int (*open_os)(lua_State *L) noexcept nogil
    int (*open_bit)(lua_State *L) noexcept nogil
    int (*open_ffi)(lua_State *L) noexcept nogil

cdef LuaApi lua

# Opens the shared object once per process. RuntimeError where it cannot be had.
cdef int open_lua() except -1

cdef inline void pop(lua_State *L, int n) noexcept nogil:
    lua.settop(L, -n - 1)
