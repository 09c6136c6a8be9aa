"""What replies become in Lua, and what Lua values become as replies, in both dialects."""
import pytest

SHA = "f" * 40

TO_REPLY = [
    ("1", b":1\r\n", None), ("1.9", b":1\r\n", None), ("-1.9", b":-1\r\n", None),
    ("1e300", b":-9223372036854775808\r\n", None), ("0/0", b":-9223372036854775808\r\n", None),
    ("'a\\r\\nb'", b"$4\r\na\r\nb\r\n", None), ("true", b":1\r\n", None),
    ("false", b"$-1\r\n", b"_\r\n"), ("nil", b"$-1\r\n", b"_\r\n"),
    ("function() end", b"$-1\r\n", b"_\r\n"), ("cjson.null", b"$-1\r\n", b"_\r\n"),
    ("{ok='fine'}", b"+fine\r\n", None), ("{ok='a\\r\\nb'}", b"+a  b\r\n", None),
    ("{err='MY x'}", b"-MY x\r\n", None), ("{err='x'}", b"-x\r\n", None),
    ("{err='a\\r\\nb'}", b"-a  b\r\n", None), ("{ok=1}", b"*0\r\n", None),
    ("{1,2,nil,4}", b"*2\r\n:1\r\n:2\r\n", None),
    ("{1,'x',{2,{}}}", b"*3\r\n:1\r\n$1\r\nx\r\n*2\r\n:2\r\n*0\r\n", None),
    ("{double=1.5}", b"$3\r\n1.5\r\n", b",1.5\r\n"),
    ("{map={a=1}}", b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    ("{set={a=true}}", b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
    ("{big_number='12'}", b"$2\r\n12\r\n", b"(12\r\n"),
    ("{big_number='1\\r\\n2'}", b"$4\r\n1  2\r\n", b"(1  2\r\n"),
    ("{verbatim_string={string='abc',format='txt'}}", b"$3\r\nabc\r\n", b"=7\r\ntxt:abc\r\n"),
    ("{verbatim_string={string='abc'}}", b"*0\r\n", None),
    ("redis.status_reply('x y')", b"+x y\r\n", None),
    ("redis.error_reply('x y')", b"-x y\r\n", None),
    ("redis.error_reply('-x y')", b"-x y\r\n", None),
    ("redis.error_reply('x')", b"-ERR x\r\n", None), ("redis.error_reply('')", b"-ERR\r\n", None),
    ("redis.error_reply(1)", b"-ERR wrong number or type of arguments\r\n", None),
    ("setmetatable({}, {__index = function() error('x') end})", b"*0\r\n", None),
]


@pytest.mark.parametrize("lua, resp2, resp3", TO_REPLY, ids=[t[0] for t in TO_REPLY])
def test_lua_values_become_replies(run, lua, resp2, resp3):
    assert run(f"local r = {lua} return r") == resp2
    assert run(f"local r = {lua} return r", resp=3) == (resp3 or resp2)


def test_booleans_stay_booleans_after_setresp_3(run):
    assert run("redis.setresp(3) return {true, false}", resp=3) == b"*2\r\n#t\r\n#f\r\n"
    assert run("redis.setresp(3) return {true, false}", resp=2) == b"*2\r\n:1\r\n:0\r\n"
    assert run("return {true, false}", resp=3) == b"*2\r\n:1\r\n_\r\n"


@pytest.mark.parametrize("reply, resp, lua", [
    (b":5\r\n", 2, "r == 5"), (b"$1\r\nx\r\n", 2, "r == 'x'"), (b"$-1\r\n", 2, "r == false"),
    (b"*-1\r\n", 2, "r == false"), (b"+OK\r\n", 2, "r.ok == 'OK'"),
    (b"*3\r\n:1\r\n$-1\r\n*1\r\n+x\r\n", 2, "r[1] == 1 and r[2] == false and r[3][1].ok == 'x'"),
    (b"_\r\n", 3, "r == nil"), (b"#t\r\n", 3, "r == true"), (b"#f\r\n", 3, "r == false"),
    (b",1.5\r\n", 3, "r.double == 1.5"), (b",inf\r\n", 3, "r.double == 1/0"),
    (b"(123\r\n", 3, "r.big_number == '123'"),
    (b"=5\r\ntxt:x\r\n", 3,
     "r.verbatim_string.string == 'x' and r.verbatim_string.format == 'txt'"),
    (b"%1\r\n+a\r\n:1\r\n", 3, "type(next(r.map)) == 'table'"),
    (b"%1\r\n$1\r\na\r\n:1\r\n", 3, "r.map.a == 1"), (b"~1\r\n$1\r\na\r\n", 3, "r.set.a == true"),
    (b"~1\r\n_\r\n", 3, "next(r.set) == nil"),
    (b"|1\r\n+a\r\n:1\r\n:7\r\n", 3, "r == 7"),
    (b"*2\r\n:1\r\n", 2, "r[1] == 1"), (b"$9\r\nab", 2, "r == 'ab'"), (b"", 2, "r == nil"),
])
def test_replies_become_lua_values(run, reply, resp, lua):
    assert run(f"redis.setresp({resp}) local r = redis.call('x') return {{{lua}}}",
               call=lambda argv, dialect: reply if dialect == resp else b"-ERR dialect\r\n") == (
        b"*1\r\n:1\r\n" if resp == 2 else b"*1\r\n:1\r\n")


def test_errors_of_commands(run):
    def call(argv, resp):
        return b"-WRONGTYPE no\r\n"
    assert run("redis.call('x')", call=call) == (
        f"-WRONGTYPE no script: {SHA}, on @user_script:1.\r\n".encode())
    assert run("return redis.call('x')") == (
        f"-WRONGTYPE no script: {SHA}, on @user_script:1.\r\n".encode())
    assert run("\n\nlocal a = redis.call('x') return a") == (
        f"-WRONGTYPE no script: {SHA}, on @user_script:3.\r\n".encode())
    assert run("return redis.pcall('x')") == b"-WRONGTYPE no\r\n"
    assert run("return redis.pcall('x').err") == b"$12\r\nWRONGTYPE no\r\n"
    assert run("local ok, e = pcall(redis.call, 'x') return {tostring(ok), e}") == (
        b"*2\r\n$5\r\nfalse\r\n$12\r\nWRONGTYPE no\r\n")


@pytest.mark.parametrize("text, error", [
    ("error('x')", f"ERR user_script:1: x script: {SHA}, on @user_script:1."),
    ("error('x', 0)", f"ERR x script: {SHA}, on @user_script:1."),
    ("\nerror({err='MY x'})", f"MY x script: {SHA}, on @user_script:2."),
    ("error({})", f"ERR unknown error script: {SHA}, on @user_script:1."),
    ("error(nil)", f"ERR nil script: {SHA}, on @user_script:1."),
    ("local function f() error('deep') end\nf()",
     f"ERR user_script:1: deep script: {SHA}, on @user_script:1."),
    ("redis.call()", "ERR Please specify at least one argument for this redis lib call "
                     f"script: {SHA}, on @user_script:1."),
    ("redis.call('a', {})", "ERR Lua redis lib command arguments must be strings or integers "
                            f"script: {SHA}, on @user_script:1."),
    ("redis.sha1hex()", f"ERR wrong number of arguments script: {SHA}, on @user_script:1."),
    ("redis.setresp(4)", f"ERR RESP version must be 2 or 3. script: {SHA}, on @user_script:1."),
    ("redis.log(9, 'x')", f"ERR Invalid debug level. script: {SHA}, on @user_script:1."),
    ("redis.set_repl(9)", "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or "
                          f"REPL_NONE. script: {SHA}, on @user_script:1."),
])
def test_errors_of_scripts(run, text, error):
    assert run(text) == f"-{error}\r\n".encode()


def test_arguments_are_as_they_stand_and_numbers_in_their_shortest_text(run):
    seen = []

    def call(argv, resp):
        seen.append(argv)
        return b"+OK\r\n"
    run("redis.call('a\\0b', 1, -1, 1.5, 0.1, 2^53, 1e17, 1/0)", call=call)
    assert (seen == [[b"a\0b", b"1", b"-1", b"1.5", b"0.1", b"9007199254740992",
                      b"100000000000000000", b"inf"]])


def test_keys_and_arguments(run):
    assert run("return {KEYS[1], ARGV[1], ARGV[2], #KEYS, #ARGV}", [b"k"], [b"a", b"\0"]) == (
        b"*5\r\n$1\r\nk\r\n$1\r\na\r\n$1\r\n\0\r\n:1\r\n:2\r\n")
    assert run("return #KEYS + #ARGV") == b":0\r\n"


def test_a_reply_that_goes_round_in_circles_ends(run):
    reply = run("local a = {} local b = {a} a[1] = b return a")
    assert reply.endswith(b"*1\r\n-ERR reached lua stack limit\r\n")
    assert b"reply is too large" in run("local a = {} for i = 1, 100 do a[i] = a end return a")
