"""cjson, cmsgpack, struct, bit and Lua's patterns: values as Redis gives them."""
import pytest

JSON = [
    ("cjson.encode({})", "{}"), ("cjson.encode({{}, {a = 1}})", '[{},{"a":1}]'),
    ("cjson.encode({[1] = 1, [3] = 3})", "[1,null,3]"), ("cjson.encode({[1.5] = 1})", '{"1.5":1}'),
    ("cjson.encode({[0] = 1})", '{"0":1}'), ("cjson.encode(nil)", "null"),
    ("cjson.encode({1e15, 123456789012345, 0.1, 1/3, -0.5, 100})",
     "[1e+15,1.2345678901234e+14,0.1,0.33333333333333,-0.5,100]"),
    (r"""cjson.encode('a"\\/\b\f\n\r\t\1\127')""", r'"a\"\\\/\b\f\n\r\t\u0001\u007f"'),
    ("cjson.encode({[1] = 1, [30] = 3})",
     "ERR user_script:1: Cannot serialise table: excessively sparse array"),
    ("cjson.encode({a = 0/0})",
     "ERR user_script:1: Cannot serialise number: must not be NaN or Inf"),
    ("cjson.encode({[true] = 1})",
     "ERR user_script:1: Cannot serialise boolean: table key must be a number or string"),
    ("cjson.encode(print or type)", None),
    ("cjson.decode('null')", "userdata: NULL"), ("cjson.decode(' [1] ')[1]", "1"),
    (r"""cjson.decode('"\\u0041\\u00e9\\u20ac\\ud83d\\ude00"')""",
     "Aé€😀".encode().decode("latin-1")),
    ("cjson.decode('0x10')", "16"), ("cjson.decode('-inf')", "-inf"), ("cjson.decode('+5')", "5"),
    ("cjson.decode('')", "ERR user_script:1: Expected value but found T_END at character 1"),
    ("cjson.decode('{')",
     "ERR user_script:1: Expected object key string but found T_END at character 2"),
    ("cjson.decode('[1 2]')",
     "ERR user_script:1: Expected comma or array end but found T_NUMBER at character 4"),
    ("cjson.decode('[1]x')",
     "ERR user_script:1: Expected the end but found invalid token at character 4"),
    ("""cjson.decode('"abc')""",
     "ERR user_script:1: Expected value but found unexpected end of string at character 5"),
    (r"""cjson.decode('"a\\ud83dx"')""",
     "ERR user_script:1: Expected value but found invalid unicode escape code at character 3"),
    ("cjson.decode(string.rep('[', 1001))",
     "ERR user_script:1: Found too many nested data structures (1001) at character 1001"),
    ("cjson.decode('[\\0]')", "ERR user_script:1: JSON parser does not support UTF-16 or UTF-32"),
    ("cjson.encode_max_depth() + cjson.decode_max_depth() + cjson.encode_number_precision()",
     "2014"),
    ("cjson.new().encode({1})", "[1]"),
]
MSGPACK = [
    ("1", "01"), ("-1", "ff"), ("128", "cc80"), ("256", "cd0100"), ("65536", "ce00010000"),
    ("2^32", "cf0000000100000000"), ("-33", "d0df"), ("-129", "d1ff7f"),
    ("-2^31-1", "d3ffffffff7fffffff"),
    ("0.5", "ca3f000000"), ("0.1", "cb3fb999999999999a"), ("nil", "c0"), ("true", "c3"),
    ("{}", "90"),
    ("{1, 2}", "920102"), ("{a = 1}", "81a16101"), ("{[2] = 1}", "810201"), ("''", "a0"),
    ("'abc'", "a3616263"),
    ("('x'):rep(32)", "d920" + "78" * 32), ("type", "c0"), ("1, 2", "0102"),
]
STRUCT = [
    ("'b', 1", "01"), ("'>h', 1", "0001"), ("'<i', 1", "01000000"), ("'i3', 1", "010000"),
    ("'l', -1", "ff" * 8), ("'f', 1", "0000803f"), ("'d', 1", "000000000000f03f"),
    ("'s', 'abc'", "61626300"),
    ("'c3', 'abcdef'", "616263"), ("'c0', 'abc'", "616263"), ("'x'", "00"),
    ("'!4bi', 1, 2", "0100000002000000"), ("'<i2 >i2', 1, 1", "01000001"),
    ("'I8', 2^63", "0000000000000080"),
]


@pytest.mark.parametrize("text, shown", JSON, ids=[t[0] for t in JSON])
def test_json(value, text, shown):
    if shown is None:
        assert "type not supported" in value("cjson.encode(type)")
    else:
        assert value(text) == shown


def test_json_settings(value):
    assert value("cjson.encode_invalid_numbers('null') and cjson.encode({0/0})") == "[null]"
    assert value("cjson.encode_invalid_numbers(true) and cjson.encode({0/0, 1/0, -1/0})") == (
        "[nan,inf,-inf]")
    assert value("cjson.decode_invalid_numbers(false) or cjson.decode('01')") == (
        "ERR user_script:1: Expected value but found invalid number at character 1")
    assert value("cjson.encode_sparse_array(true, 1, 1) and cjson.encode({[30] = 3})") == '{"30":3}'
    assert value("cjson.encode_max_depth(1) and cjson.encode({{}})") == (
        "ERR user_script:1: Cannot serialise, excessive nesting (2)")
    assert value("cjson.encode_max_depth(1000) and cjson.decode_array_with_array_mt(true) and "
                 "cjson.encode(cjson.decode('[[],{}]'))") == (
        "[[],{}]")
    assert "invalid option 'x'" in value("cjson.encode_invalid_numbers('x')")
    assert "expected integer between 1 and 14" in value("cjson.encode_number_precision(20)")


@pytest.mark.parametrize("text, data", MSGPACK, ids=[t[0] for t in MSGPACK])
def test_msgpack(value, text, data):
    hexed = "(cmsgpack.pack(%s):gsub('.', function(c) return string.format('%%02x', c:byte()) end))"
    assert value(hexed % text) == data


def test_msgpack_unpacks_what_it_packed(value):
    assert value("(function() local t = {a = {1, 2, {x = 'y'}}, [5] = -7, f = 1.5} "
                 "local u = cmsgpack.unpack(cmsgpack.pack(t)) "
                 "return u.a[3].x .. u[5] .. u.f .. #u.a end)()") == "y-71.53"
    assert value("table.concat({cmsgpack.unpack('\\1\\2\\3')}, ',')") == "1,2,3"
    assert value("table.concat({cmsgpack.unpack_one('\\1\\2\\3', 1)}, ',')") == "2,2"
    assert value("table.concat({cmsgpack.unpack_limit('\\1\\2\\3', 5)}, ',')") == "-1,1,2,3"
    assert value("cmsgpack.unpack('\\147\\1')") == "ERR user_script:1: Missing bytes in input."
    assert value("cmsgpack.unpack('\\193')") == "ERR user_script:1: Bad data format in input."
    assert value("cmsgpack.unpack_one('x', 4)") == (
        "ERR user_script:1: Start offset 4 greater than input length 1.")


def test_msgpack_stops_at_sixteen_tables(value):
    assert value("(function() local a = {} a.x = a local n = 0 local u = "
                 "cmsgpack.unpack(cmsgpack.pack(a)) "
                 "while u do u = u.x n = n + 1 end return n end)()") == "16"


@pytest.mark.parametrize("text, data", STRUCT, ids=[t[0] for t in STRUCT])
def test_struct(value, text, data):
    hexed = "(struct.pack(%s):gsub('.', function(c) return string.format('%%02x', c:byte()) end))"
    assert value(hexed % text) == data


def test_struct_unpacks(value):
    assert value("table.concat({struct.unpack('bBh', '\\255\\255\\1\\2')}, ',')") == "-1,255,513,5"
    assert value("table.concat({struct.unpack('>i4', '\\0\\0\\0\\1')}, ',')") == "1,5"
    assert value("table.concat({struct.unpack('Bc0', '\\3abcd')}, ',')") == "abc,5"
    assert value("table.concat({struct.unpack('s', 'abc\\0def')}, ',')") == "abc,5"
    assert value("struct.size('bhilLTfdxc5')") == "49"
    assert value("struct.size('zi')") == "4"
    for text, error in [("struct.unpack('s', 'abc')", "unfinished string in data"),
                        ("struct.unpack('i', 'abc')", "data string too short"),
                        ("struct.unpack('c0', 'abc')", "format 'c0' needs a previous size"),
                        ("struct.pack('i33', 1)", "integral size 33 is larger than limit of 32"),
                        ("struct.pack('!3i', 1)", "alignment 3 is not a power of 2"),
                        ("struct.pack('q', 1)", "invalid format option 'q'"),
                        ("struct.size('s')", "option 's' has no fixed size")]:
        assert error in value(text)


def test_random_numbers_are_those_of_redis(value):
    assert value("(function() math.randomseed(7) return table.concat({math.random(100), "
                 "math.random(100), math.random(1, 10)}, ' ') end)()") == "27 69 3"
    assert value("(function() math.randomseed(7) return math.random() end)()") == "0.26644419658298"
    assert value("math.random(1.5)") == "1"
    for text in ["math.random(0)", "math.random(-1)"]:
        assert value(text) == ("ERR user_script:1: bad argument #1 to 'random' (interval is empty)")
    assert value("math.random(2, 1)") == (
        "ERR user_script:1: bad argument #2 to 'random' (interval is empty)")
    assert value("math.random(1, 2, 3)") == "ERR user_script:1: wrong number of arguments"
    assert 1 <= int(value("math.random(-2^31, 2^31 - 1)")) + 2**31 + 1 <= 2**32


def test_bit(value):
    assert value("bit.tohex(255, 4) .. bit.tohex(-1) .. bit.bxor(1, 2) .. bit.tobit(2^40 + 1)") == (
        "00ffffffffff31")


@pytest.mark.parametrize("text, shown", [
    ("('hello world'):find('wor')", "7"), ("('hello'):find('l', 1, true)", "3"),
    ("('hello'):find('xyz')", "nil"), ("('hello'):find('', 10)", "6"),
    ("('hello'):match('^(h)(.)')", "h"),
    ("('key = value'):match('^(%w+)%s*=%s*(%w+)$')", "key"),
    ("('[[x]]'):match('%[(%b[])%]')", "[x]"),
    ("('THE (quick) fox'):find('%((%a+)%)')", "5"), ("('a.b'):gsub('%.', '%%')", "a%b"),
    ("('hello world'):gsub('o', '0', 1)", "hell0 world"), ("('abc'):gsub('%w', '%0%0')", "aabbcc"),
    ("('abc'):gsub('', '-')", "-a-b-c-"), ("('hello'):gsub('l', {l = 'L'})", "heLLo"),
    ("('hello'):gsub('l', function() return nil end)", "hello"), ("('x'):rep(3)", "xxx"),
    ("('THE (quick) fox'):gsub('%f[%a]%a+', 'w')", "w (w) w"), ("('aXb'):match('%u')", "X"),
    ("('abc'):match('()b()')", "2"), ("('abab'):match('(ab)%1')", "ab"),
    ("('a]b'):match('[]]')", "]"),
    ("('a-b'):match('[a%-]+')", "a-"), ("('abc'):match('[^a]+')", "bc"),
    ("('aaa'):match('a-$')", "aaa"),
    ("('aaab'):match('a-b')", "aaab"), ("('\\0x'):find('%z')", "1"),
    ("('abc'):match('a?b?c?d?')", "abc"),
    ("('a,b,c'):gsub(',', function(c) return ';' end)", "a;b;c"),
    ("(function() local t = {} for k, v in ('a=1,b=2'):gmatch('(%w)=(%w)') do t[#t + 1] = k .. v "
     "end "
     "return table.concat(t, ' ') end)()", "a1 b2"),
    ("('abc'):find('[a')", "ERR user_script:1: malformed pattern (missing ']')"),
    ("('abc'):find('%')", "ERR user_script:1: malformed pattern (ends with '%')"),
    ("('abc'):gsub('%w', '%2')", "ERR user_script:1: invalid capture index"),
    ("('abc'):find('(')", "ERR user_script:1: unfinished capture"),
    ("('abc'):match(')')", "ERR user_script:1: invalid pattern capture"),
    ("('abc'):gsub('a', function() return {} end)",
     "ERR user_script:1: invalid replacement value (a table)"),
    ("('x'):rep(400):find(('x?'):rep(300))", "ERR user_script:1: pattern too complex"),
])
def test_patterns(value, text, shown):
    assert value(text) == shown


def test_table_functions(value):
    assert value("(function() local t = {1, 3} table.insert(t, 2, 2) table.insert(t, 4) "
                 "return table.concat(t, ',') .. table.remove(t, 1) .. table.remove(t) .. #t end)()"
                 ) == "1,2,3,4142"
    assert value("(function() local t = {3, 1, 2} table.sort(t) table.sort(t, function(a, b) "
                 "return a > b end) return table.concat(t) end)()") == "321"
    assert value("table.remove({})") == "nil"


def test_sha1():
    import hashlib

    from crdtredis._lua import sha1
    for n in range(200):
        assert sha1(b"x" * n) == hashlib.sha1(b"x" * n).hexdigest().encode()
