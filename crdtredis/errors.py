"""The texts of all error replies, and the errors that stop a start.

A Python command refuses by raising CommandError with the whole reply text, code first ("ERR syntax
error"); the executor turns it into an error reply and changes nothing. Native commands hand the
same constants to `refuse`: setup.py makes errors.pxd of this file, from which compiled code
cimports each text as a C literal under the same name. So a text stands here and nowhere else. Texts
are worded as Redis words them, because clients match on them; %s and its like are what a text says
of the call, for Python's % and C's printf alike.

StartError is what the command line turns into one line on standard error and an exit code.
"""


class CommandError(Exception):
    """An error reply: the text as sent, without the leading '-'."""


# ---- several commands ----------------------------------------------------------------------------
SYNTAX = "ERR syntax error"
WRONG_ARITY = "ERR wrong number of arguments for '%s' command"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_INTEGER = "ERR value is not an integer or out of range"
NOT_FLOAT = "ERR value is not a valid float"
NOT_FINITE = "ERR value is NaN or Infinity"
NOT_POSITIVE = "ERR value is out of range, must be positive"
NOT_INT32 = "ERR value is out of range, value must between -2147483648 and 2147483647"
NOT_NEGATABLE = ("ERR value is out of range, value must between -9223372036854775807 and "
                 "9223372036854775807")
NOT_0_OR_1 = "ERR value is out of range, must be between 0 and 1"
OUT_OF_RANGE = "ERR value is out of range"
INCREMENT_OVERFLOW = "ERR increment or decrement would overflow"
INCREMENT_NOT_FINITE = "ERR increment would produce NaN or Infinity"
NO_SUCH_KEY = "ERR no such key"
DB_INDEX = "ERR DB index is out of range"
PATTERN_TOO_LONG = "ERR pattern is too long"
INVALID_CURSOR = "ERR invalid cursor"
NOVALUES_ELSEWHERE = "ERR NOVALUES option can only be used in HSCAN"
INVALID_EXPIRE = "ERR invalid expire time in '%s' command"
NUMKEYS_NOT_POSITIVE = "ERR numkeys should be greater than 0"
COUNT_NOT_POSITIVE = "ERR count should be greater than 0"
LIMIT_NEGATIVE = "ERR LIMIT can't be negative"
TIMEOUT_NOT_INTEGER = "ERR timeout is not an integer or out of range"
TIMEOUT_NOT_FLOAT = "ERR timeout is not a float or out of range"
TIMEOUT_NEGATIVE = "ERR timeout is negative"
TIMEOUT_OUT_OF_RANGE = "ERR timeout is out of range"

# ---- commands that are not run -------------------------------------------------------------------
UNKNOWN_COMMAND = "ERR unknown command '%s', with args beginning with: %s"
UNKNOWN_SUBCOMMAND = "ERR unknown subcommand '%s'. Try %s HELP."
NO_AUTH = "NOAUTH Authentication required."
NO_PERMISSION_COMMAND = "NOPERM User %.*s has no permissions to run the '%s' command"
NO_PERMISSION_KEY = "NOPERM No permissions to access a key"
NO_PERMISSION_CHANNEL = "NOPERM No permissions to access a channel"
NO_PERMISSION_ANY_MORE = ("NOPERM ACLs rules changed between the moment the transaction was "
                          "accumulated and the EXEC call. This command is no longer allowed for "
                          "the following reason: %s")
SCRIPT_NO_PERMISSION = "ERR ACL failure in script: %s"
SORT_BY_DENIED = "ERR BY option of SORT denied due to insufficient ACL permissions."
SORT_GET_DENIED = "ERR GET option of SORT denied due to insufficient ACL permissions."
NOT_IN_TRANSACTION = "ERR Command not allowed inside a transaction"
NOT_IN_SUBSCRIPTION = ("ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
                       "QUIT / RESET are allowed in this context")
OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'."
LOADING = "LOADING Redis is loading the dataset in memory"
LOG_NOT_WRITTEN = "MISCONF Errors writing to the AOF file: %s"
CLOCK_AHEAD = ("CLOCKAHEAD Writes are refused: timestamps here are ahead of the clock by more "
               "than max-clock-skew. GET /health says how to go on")
JOINING = "TRYAGAIN Writes wait until the state of another replica has been joined"
TOO_LARGE = "ERR operation too large"
REPLICA_TOO_OLD = ("ERR Replica %s runs a version that knows nothing of this and would refuse all "
                   "that is written from now on: upgrade it first")
UNSOUND_RESULT = ("ERR a result of this command is none that replicas could be told, and was not "
                  "stored")
BUSY_SCRIPT = ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN "
               "NOSAVE.")
BUSY_FUNCTION = ("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN "
                 "NOSAVE.")
# a Python command failed in a way nobody foresaw; the log has the traceback
INTERNAL = "ERR internal error"

# ---- scripts -------------------------------------------------------------------------------------
NO_SCRIPT = "NOSCRIPT No matching script. Please use EVAL."
NO_SCRIPT_RUNS = "NOTBUSY No scripts in execution right now."
SCRIPT_UNKILLABLE = ("UNKILLABLE Sorry the script already executed write commands against the "
                     "dataset. You can either wait the script termination or kill the server in a "
                     "hard way using the SHUTDOWN NOSAVE command.")
SCRIPT_UNKNOWN = "ERR Unknown Redis command called from script"
SCRIPT_ARITY = "ERR Wrong number of args calling Redis command from script"
NOT_FROM_SCRIPT = "ERR This Redis command is not allowed from script"
SCRIPT_READ_ONLY_TEXT = "ERR Write commands are not allowed from read-only scripts."
SCRIPT_WRITES = "ERR Can not execute a script with write flag using *_ro command."
SCRIPT_OUT_OF_MEMORY = ("OOM allow-oom flag is not set on the script, can not run it when used "
                        "memory > 'maxmemory'")
SCRIPT_COMPILE = "ERR Error compiling script (new function): %.400s"
SCRIPT_TOO_LONG = "ERR script is too long"
SCRIPTS_FULL = "ERR the texts of scripts take too much memory; SCRIPT FLUSH removes them"
SCRIPT_UNAVAILABLE = "ERR scripts are not available: %.300s"
SCRIPT_FLUSH = "ERR SCRIPT FLUSH only support SYNC|ASYNC option"
SCRIPT_DEBUG = "ERR Use SCRIPT DEBUG YES/SYNC/NO"
SCRIPT_NO_DEBUG = "ERR scripts cannot be debugged here"
KEYS_NEGATIVE = "ERR Number of keys can't be negative"
KEYS_TOO_MANY = "ERR Number of keys can't be greater than number of args"
FUNCTION_UNKNOWN = "ERR Function not found"
FUNCTION_KEYS = "ERR Bad number of keys provided"
LIBRARY_UNKNOWN = "ERR Library not found"
LIBRARY_EXISTS = "ERR Library '%s' already exists"
LIBRARY_RESTORED = "ERR Library %s already exists"
LIBRARY_NAME = ("ERR Library names can only contain letters, numbers, or underscores(_) and must "
                "be at least one character long")
LIBRARY_METADATA = "ERR Missing library metadata"
LIBRARY_METADATA_INVALID = "ERR Invalid library metadata"
LIBRARY_METADATA_VALUE = "ERR Invalid metadata value given: %s"
LIBRARY_NAME_TWICE = "ERR Invalid metadata value, name argument was given multiple times"
LIBRARY_NAME_MISSING = "ERR Library name was not given"
LIBRARY_ENGINE = "ERR Engine '%s' not found"
LIBRARY_EMPTY = "ERR No functions registered"
LIBRARY_TOO_LONG = "ERR library is too long"
LIBRARIES_LATER = "BUSY libraries are being compiled; try again"
LIBRARIES_MANY = "ERR too many libraries"
FUNCTION_EXISTS = "ERR Function %s already exists"
FUNCTION_ARITY = ("ERR unknown subcommand or wrong number of arguments for '%s'. Try FUNCTION "
                  "HELP.")
FUNCTION_OPTION = "ERR Unknown option given: %s"
FUNCTION_ARGUMENT = "ERR Unknown argument %s"
FUNCTION_PATTERN = "ERR library name argument was not given"
FUNCTION_DUMP = "ERR DUMP payload version or checksum are wrong"
FUNCTION_POLICY = ("ERR Wrong restore policy given, value should be either FLUSH, APPEND or "
                   "REPLACE.")
FUNCTION_DUMP_TYPE = "ERR given type is not a function"
SHEBANG_INVALID = "ERR Invalid script shebang"
SHEBANG_QUOTES = "ERR Invalid engine in script shebang"
SHEBANG_ENGINE = "ERR Unexpected engine in script shebang: %.128s"
SHEBANG_OPTION = "ERR Unknown lua shebang option: %.128s"
SHEBANG_FLAG = "ERR Unexpected flag in script shebang: %.128s"

# ---- requests that cannot be parsed --------------------------------------------------------------
INVALID_MULTIBULK_LENGTH = "ERR Protocol error: invalid multibulk length"
INVALID_BULK_LENGTH = "ERR Protocol error: invalid bulk length"
UNAUTHENTICATED_MULTIBULK_LENGTH = "ERR Protocol error: unauthenticated multibulk length"
UNAUTHENTICATED_BULK_LENGTH = "ERR Protocol error: unauthenticated bulk length"
MULTIBULK_HEADER_TOO_BIG = "ERR Protocol error: too big mbulk count string"
BULK_HEADER_TOO_BIG = "ERR Protocol error: too big bulk count string"
INLINE_TOO_BIG = "ERR Protocol error: too big inline request"
DOLLAR_EXPECTED = "ERR Protocol error: expected '$', got '%c'"
UNBALANCED_QUOTES = "ERR Protocol error: unbalanced quotes in request"

# ---- transactions and waiting --------------------------------------------------------------------
NESTED_MULTI = "ERR MULTI calls can not be nested"
DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI"
EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI"
WATCH_IN_MULTI = "ERR WATCH inside MULTI is not allowed"
EXEC_ABORTED = "EXECABORT Transaction discarded because of previous errors."
EXEC_REFUSED = "EXECABORT Transaction discarded because of: %s"
UNBLOCKED = "UNBLOCKED client unblocked via CLIENT UNBLOCK"

# ---- keys ----------------------------------------------------------------------------------------
SAME_OBJECT = "ERR source and destination objects are the same"
FIRST_DB = "ERR invalid first DB index"
SECOND_DB = "ERR invalid second DB index"
UNSUPPORTED_OPTION = "ERR Unsupported option "
NX_AND_OTHERS = "ERR NX and XX, GT or LT options at the same time are not compatible"
GT_AND_LT = "ERR GT and LT options at the same time are not compatible"
NO_LFU = ("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
          "that when switching between policies at runtime LRU and LFU data will take some time "
          "to adjust.")
NO_LRU = ("ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when "
          "switching between policies at runtime LRU and LFU data will take some time to adjust.")
KEY_EXISTS = "BUSYKEY Target key name already exists."
TTL_NEGATIVE = "ERR Invalid TTL value, must be >= 0"
IDLETIME_NEGATIVE = "ERR Invalid IDLETIME value, must be >= 0"
FREQ_RANGE = "ERR Invalid FREQ value, must be >= 0 and <= 255"
PAYLOAD_NOT_SEALED = "ERR DUMP payload version or checksum are wrong"
PAYLOAD_DAMAGED = "ERR Bad data format"
SORT_NOT_FLOAT = "ERR One or more scores can't be converted into double"

# ---- strings and bitmaps -------------------------------------------------------------------------
STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_RANGE = "ERR offset is out of range"
DECREMENT_OVERFLOW = "ERR decrement would overflow"
DIGEST_LENGTH = "ERR must be exactly 16 hexadecimal characters"
DELEX_NOT_STRING = "ERR Key should be of string type if conditions are specified"
DELEX_CONDITION = "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"
MSETEX_NUMKEYS = "ERR invalid numkeys value"
MSETEX_PAIRS = "ERR wrong number of key-value pairs"
ENX_ALONE = "ERR ENX flag requires an expiration"
BOUNDS_CROSSED = "ERR LBOUND can't be greater than UBOUND"
APPLIED_OVERFLOW = "ERR applied increment would overflow"
BYFLOAT_INFINITE = "ERR BYFLOAT increment cannot be Infinity"
VALUE_INFINITE = "ERR value cannot be Infinity"
OPTION_NOT_INTEGER = "ERR %s is not an integer or out of range"
OPTION_NOT_FLOAT = "ERR %s is not a valid float"
LCS_NOT_STRINGS = "ERR The specified keys must contain string values"
LCS_LENGTH_AND_INDEXES = "ERR If you want both the length and indexes, please just use IDX."
LCS_TOO_LARGE = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
LCS_NO_MEMORY = "ERR Insufficient memory, failed allocating transient memory for LCS"
BIT_OFFSET = "ERR bit offset is not an integer or out of range"
BIT_VALUE = "ERR bit is not an integer or out of range"
BITPOS_BIT = "ERR The bit argument must be 1 or 0."
BITOP_NOT_ONE_KEY = "ERR BITOP NOT must be called with a single source key."
BITFIELD_TYPE = ("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not "
                 "supported but i64 is.")
BITFIELD_OVERFLOW = "ERR Invalid OVERFLOW type specified"
BITFIELD_RO_GET = "ERR BITFIELD_RO only supports the GET subcommand"

# ---- HyperLogLogs --------------------------------------------------------------------------------
NOT_HLL = "WRONGTYPE Key is not a valid HyperLogLog string value."
HLL_CORRUPTED = "INVALIDOBJ Corrupted HLL object detected"
HLL_NOT_SPARSE = "ERR HLL encoding is not sparse"
PFDEBUG_NO_KEY = "ERR The specified key does not exist"
PFDEBUG_SUBCOMMAND = "ERR Unknown PFDEBUG subcommand '%.*s'"
PFSELFTEST_FAILED = "TESTFAILED The two forms do not agree, or the estimate is off"

# ---- hashes, sets and lists ----------------------------------------------------------------------
HASH_NOT_INTEGER = "ERR hash value is not an integer"
HASH_NOT_FLOAT = "ERR hash value is not a float"
FIELDS_MISSING = "ERR Mandatory argument FIELDS is missing or not at the right position"
FIELDS_NOT_POSITIVE = "ERR Number of fields must be a positive integer"
FIELDS_COUNT = "ERR The `numfields` parameter must match the number of arguments"
FIELDS_NOT_ABOVE_0 = "ERR Parameter `numFields` should be greater than 0"
FIELDS_NUMBER = "ERR invalid number of fields"
FIELD_TIME_NEGATIVE = "ERR invalid expire time, must be >= 0"
FIELD_CONDITIONS = "ERR Only one of FXX or FNX arguments can be specified"
FIELD_TIMES = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
UNKNOWN_ARGUMENT = "ERR unknown argument: "
TOO_MANY_KEYS = "ERR Number of keys can't be greater than number of args"
INDEX_RANGE = "ERR index out of range"
NO_ROOM_IN_LIST = ("ERR no room left at this place of the list: too many elements were inserted "
                   "between the same two")
LPOS_RANK_ZERO = ("ERR RANK can't be zero: use 1 to start from the first match, 2 from the second "
                  "... or use negative to start from the end of the list")
LPOS_COUNT_NEGATIVE = "ERR COUNT can't be negative"
LPOS_MAXLEN_NEGATIVE = "ERR MAXLEN can't be negative"

# ---- sorted sets and places ----------------------------------------------------------------------
SCORE_NAN = "ERR resulting score is not a number (NaN)"
MIN_MAX_NOT_FLOAT = "ERR min or max is not a float"
MIN_MAX_NOT_NAME = "ERR min or max not valid string range item"
LIMIT_BY_RANK = ("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or "
                 "BYLEX")
WITHSCORES_BY_NAME = "ERR syntax error, WITHSCORES not supported in combination with BYLEX"
XX_AND_NX = "ERR XX and NX options at the same time are not compatible"
GT_LT_AND_NX = "ERR GT, LT, and/or NX options at the same time are not compatible"
INCR_PAIRS = "ERR INCR option supports a single increment-element pair"
NO_INPUT_KEY = "ERR at least 1 input key is needed for '%s' command"
WEIGHT_NOT_FLOAT = "ERR weight value is not a float"
GEO_PLACE = "ERR invalid longitude,latitude pair %f,%f"
GEO_UNIT = "ERR unsupported unit provided. please use M, KM, FT, MI"
GEO_RADIUS = "ERR need numeric radius"
GEO_RADIUS_NEGATIVE = "ERR radius cannot be negative"
GEO_WIDTH = "ERR need numeric width"
GEO_HEIGHT = "ERR need numeric height"
GEO_BOX_NEGATIVE = "ERR height or width cannot be negative"
GEO_NO_MEMBER = "ERR could not decode requested zset member"
GEO_COUNT = "ERR COUNT must be > 0"
GEO_CORNERS = "ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"
GEO_VERTICES = "ERR invalid number of vertices"
GEO_ANY = "ERR the ANY argument requires COUNT argument"
GEO_EXACTLY_ONE = "ERR exactly one of %s can be specified for %.*s"
GEO_STORE_WITH = ("ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD "
                  "options")
GEO_RADIUS_STORE_WITH = ("ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH "
                         "and WITHCOORD options")

# ---- streams -------------------------------------------------------------------------------------
ID_INVALID = "ERR Invalid stream ID specified as stream command argument"
IDS_COUNT = "ERR The `numids` parameter must match the number of arguments"
IDS_NOT_POSITIVE = "ERR Number of IDs must be a positive integer"
ID_ZERO = "ERR The ID specified in XADD must be greater than 0-0"
ID_EXHAUSTED = ("ERR The stream has exhausted the last possible ID, unable to add more items")
ID_NOT_ABOVE = ("ERR The ID specified in XADD is equal or smaller than the target stream top item")
INTERVAL_START = "ERR invalid start ID for the interval"
INTERVAL_END = "ERR invalid end ID for the interval"
MAXLEN_AND_MINID = ("ERR syntax error, MAXLEN and MINID options at the same time are not "
                    "compatible")
MAXLEN_NEGATIVE = "ERR The MAXLEN argument must be >= 0."
LIMIT_ARGUMENT_NEGATIVE = "ERR The LIMIT argument must be >= 0."
LIMIT_ALONE = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
LIMIT_EXACT = "ERR syntax error, LIMIT cannot be used without the special ~ option"
NO_STRATEGY = "ERR syntax error, XTRIM must be called with a trimming strategy"
ENTRIES_ADDED_NEGATIVE = "ERR entries_added must be positive"
ENTRIES_ADDED_SMALL = ("ERR The entries_added specified in XSETID is smaller than the target "
                       "stream length")
SETID_BELOW_GIVEN = ("ERR The ID specified in XSETID is smaller than the provided "
                     "max_deleted_entry_id")
SETID_BELOW_DELETED = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"
SETID_BELOW_TOP = "ERR The ID specified in XSETID is smaller than the target stream top item"
IDMP_TWICE = "ERR IDMP/IDMPAUTO specified multiple times"
IDMP_PRODUCER = "ERR IDMP requires a non-empty producer ID"
IDMP_ID = "ERR IDMP requires a non-empty idempotent ID"
IDMPAUTO_PRODUCER = "ERR IDMPAUTO requires a non-empty producer ID"
IDMP_GIVEN = "ERR IDMP/IDMPAUTO can be used only with auto-generated IDs"
IDMP_NOTHING = "ERR At least one parameter must be specified"
IDMP_DURATION = "ERR IDMP-DURATION must be between 1 and 86400 seconds"
IDMP_MAXSIZE = "ERR IDMP-MAXSIZE must be between 1 and 10000 entries"
GROUP_OF_XREADGROUP = ("ERR The GROUP option is only supported by XREADGROUP. You called XREAD "
                       "instead.")
NOACK_OF_XREADGROUP = ("ERR The NOACK option is only supported by XREADGROUP. You called XREAD "
                       "instead.")
CLAIM_OF_XREADGROUP = ("ERR The CLAIM option is only supported by XREADGROUP. You called XREAD "
                       "instead.")
NEW_OF_XREADGROUP = ("ERR The > ID can be specified only when calling XREADGROUP using the GROUP "
                     "<group> <consumer> option.")
XREAD_UNBALANCED = ("ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must "
                    "be specified.")
XREAD_BLOCKS = "ERR %.*s command is not allowed with BLOCK option from scripts"
XREADGROUP_UNBALANCED = ("ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID "
                         "or '>' must be specified.")
READ_MAXCOUNT = "ERR MAXCOUNT must be > 0"
READ_MAXCOUNT_BELOW = "ERR MAXCOUNT must not be less than COUNT"
READ_MAXSIZE = "ERR MAXSIZE must be > 0"
READ_CLAIM_IDLE = "ERR min-idle-time is not an integer"
READ_CLAIM_NEGATIVE = "ERR min-idle-time must be a positive integer"
GROUP_MISSING = "ERR Missing GROUP option for XREADGROUP"
DOLLAR_OF_XREAD = ("ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the "
                   "history of this consumer by specifying a proper ID, or use the > ID to get new "
                   "messages. The $ ID would just return an empty result set.")
ENTRIES_READ_NEGATIVE = "ERR value for ENTRIESREAD must be positive or -1"
GROUP_NAME_LONG = "ERR the name of a group or consumer is longer than 512 bytes"
GROUP_EXISTS = "BUSYGROUP Consumer Group name already exists"
GROUP_NEEDS_KEY = ("ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you "
                   "may want to use the MKSTREAM option to create an empty stream automatically.")
CLAIM_IDLE = "ERR Invalid min-idle-time argument for XCLAIM"
CLAIM_IDLE_OPTION = "ERR Invalid IDLE option argument for XCLAIM"
CLAIM_TIME = "ERR Invalid TIME option argument for XCLAIM"
CLAIM_RETRYCOUNT = "ERR Invalid RETRYCOUNT option argument for XCLAIM"
NACK_MODE = "ERR mode must be SILENT, FAIL, or FATAL"
NACK_NUMIDS = "ERR numids must be a positive integer"
NACK_IDS = "ERR number of IDs doesn't match numids"
NACK_RETRYCOUNT = "ERR Invalid RETRYCOUNT value, must be >= 0"
NACK_WITHOUT_IDS = "ERR syntax error, expected IDS keyword"
AUTOCLAIM_IDLE = "ERR Invalid min-idle-time argument for XAUTOCLAIM"
AUTOCLAIM_COUNT = "ERR COUNT must be > 0"
STREAM_ARITY = "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP."

# ---- connections ---------------------------------------------------------------------------------
NO_PASSWORD = ("ERR AUTH <password> called without any password configured for the default user. "
               "Are you sure your configuration is correct?")
WRONG_PASS = "WRONGPASS invalid username-password pair or user is disabled."
HELLO_NO_AUTH = ("NOAUTH HELLO must be called with the client already authenticated, otherwise "
                 "the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the "
                 "client and select the RESP protocol version at the same time")
HELLO_OPTION = "ERR Syntax error in HELLO option '%s'"
PROTOCOL_NOT_INTEGER = "ERR Protocol version is not an integer or out of range"
PROTOCOL_UNSUPPORTED = "NOPROTO unsupported protocol version"
SPECIAL_CHARACTERS = "ERR %s cannot contain spaces, newlines or special characters."
CLIENT_ARITY = "ERR unknown subcommand or wrong number of arguments for '%s'. Try CLIENT HELP."
TOPIC_TOO_LONG = "ERR a channel or pattern to subscribe to has at most 65536 bytes"
SUBSCRIPTIONS_TOO_MANY = "ERR too many subscriptions of one client"
SUBSCRIPTIONS_MEMORY = "ERR the subscriptions of all clients take too much memory"
PUBSUB_ARITY = "ERR unknown subcommand or wrong number of arguments for '%.128s'. Try PUBSUB HELP."
CLIENT_ATTRIBUTE = "ERR Unrecognized option '%s'"
CLIENT_TYPE = "ERR Unknown client type '%s'"
CLIENT_ID = "ERR Invalid client ID"
CLIENT_ID_NOT_POSITIVE = "ERR client-id should be greater than 0"
CLIENT_OPTION_POSITIVE = "ERR %s should be greater than 0"
CLIENT_DB = "ERR DB number should be between 0 and %d"
CLIENT_FLAGS = "ERR Unknown flags found in the %s filter: %s"
NO_SUCH_CLIENT = "ERR No such client"
NO_SUCH_USER = "ERR No such user '%s'"
MAINT_RESP3 = "ERR CLIENT MAINT_NOTIFICATIONS ON is for clients that speak RESP3"
MAINT_ENDPOINT = ("ERR moving-endpoint-type must be one of internal-ip, internal-fqdn, "
                  "external-ip, external-fqdn and none")
PAUSE_MODE = "ERR CLIENT PAUSE mode must be WRITE or ALL"
MONITOR_IN_EXEC = "ERR MONITOR isn't allowed for DENY BLOCKING client"
MONITOR_KEYSPACE = "ERR Replica can't interact with the keyspace"
UNBLOCK_REASON = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
REDIRECT_NOBODY = "ERR The client ID you want redirect to does not exist"
REDIRECT_TWICE = "ERR A client can only redirect to a single other client"
TRACKING_PREFIX = "ERR PREFIX option requires BCAST mode to be enabled"
TRACKING_BCAST_OPT = "ERR OPTIN and OPTOUT are not compatible with BCAST"
TRACKING_BOTH_OPTS = "ERR You can't specify both OPTIN mode and OPTOUT mode"
TRACKING_SWITCH_BCAST = ("ERR You can't switch BCAST mode on/off before disabling tracking for "
                         "this client, and then re-enabling it with a different mode.")
TRACKING_SWITCH_OPT = ("ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this "
                       "client, and then re-enabling it with a different mode.")
PREFIX_OVERLAPS = ("ERR Prefix '%.*s' overlaps with an existing prefix '%.*s'. Prefixes for a "
                   "single client must not overlap.")
PREFIX_OVERLAPS_ANOTHER = ("ERR Prefix '%.*s' overlaps with another provided prefix '%.*s'. "
                           "Prefixes for a single client must not overlap.")
PREFIXES_TOO_MANY = "ERR too many prefixes"
CACHING_YES = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
CACHING_NO = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
CACHING_WITHOUT_TRACKING = ("ERR CLIENT CACHING can be called only when the client is in tracking "
                            "mode with OPTIN or OPTOUT mode enabled")

# ---- users ---------------------------------------------------------------------------------------
ACL_MODIFIER = "ERR Error in ACL SETUSER modifier '%s': %s"
ACL_PARENTHESIS = "ERR Unmatched parenthesis in acl selector starting at '%s'."
ACL_USERNAME = "ERR Usernames can't contain spaces or null characters"
ACL_USERNAME_TOO_LONG = "ERR Usernames can't be longer than 256 bytes"
ACL_TOO_MANY = "ERR too many users"
ACL_TOO_MANY_RULES = "ERR too many rules of one user"
ACL_LINE_TOO_LONG = "ERR the rules of a replicated user can't be longer than 65536 bytes"
ACL_NOT_REPLICATED = "ERR a rule that has a space in it can't be replicated"
ACL_UNREAD = ("ERR The rules of user '%s' are those of a newer version, which this one does not "
              "know: begin with reset")
ACL_DEFAULT_STAYS = "ERR The 'default' user cannot be removed"
ACL_NO_FILE = ("ERR This Redis instance is not configured to use an ACL file. You may want to "
               "specify users via the ACL SETUSER command and then issue a CONFIG REWRITE "
               "(assuming you have a Redis configuration file set) in order to store users in the "
               "Redis configuration.")
ACL_NOT_LOADED = "ERR %s"
ACL_NOT_SAVED = ("ERR There was an error trying to save the ACLs. Please check the server logs for "
                 "more information")
ACL_GENPASS = ("ERR ACL GENPASS argument must be the number of bits for the output password, a "
               "positive number up to 4096")
ACL_ARITY = "ERR unknown subcommand or wrong number of arguments for '%s'. Try ACL HELP."
ACL_NO_USER = "ERR User '%s' not found"
ACL_NO_COMMAND = "ERR Command '%s' not found"
ACL_DRYRUN_COMMAND = "User %s has no permissions to run the '%s' command"
ACL_DRYRUN_ARGUMENT = "User %s has no permissions to access the '%s' %s"

# ---- the server ----------------------------------------------------------------------------------
INVALID_COMMAND = "ERR Invalid command specified"
NO_KEY_ARGUMENTS = "ERR The command has no key arguments"
INVALID_NUMBER_OF_ARGUMENTS = "ERR Invalid number of arguments specified for command"
INVALID_ARGUMENTS = "ERR Invalid arguments specified for command"
NO_CLUSTER = "ERR This instance has cluster support disabled"
NO_CONFIG = "ERR This instance runs without a configuration"
CONFIG_UNKNOWN = "ERR Unknown option or number of arguments for CONFIG SET - '%s'"
CONFIG_SET = "ERR CONFIG SET failed (possibly related to argument '%s') - %s"
CONFIG_REWRITE = "ERR Rewriting config file: %s"
NO_SHUTDOWN = "ERR No shutdown in progress."
SHUTDOWN_FAILED = "ERR Errors trying to SHUTDOWN. Check logs."
SAVE_IN_PROGRESS = "ERR Background save already in progress"
REWRITE_IN_PROGRESS = "ERR Background append only file rewriting already in progress"
SNAPSHOT_SENT = "ERR A snapshot is being sent already: ask again once it has been"
SNAPSHOT_JOINING = "TRYAGAIN The state of another replica is being joined"
SNAPSHOT_UNREAD = "ERR Earlier replies are still to be read"
SNAPSHOT_FORK = "ERR No process can be made: %s"
NO_REPLICAS = ("ERR No server of Redis can follow this one. SYNC gives one snapshot (redis-cli "
               "--rdb)")
REPLCONF_OPTION = "ERR Unrecognized REPLCONF option: %s"
UNKNOWN_CATEGORY = "ERR Unknown category '%s'"
FUNCTION_FLUSH = "ERR FUNCTION FLUSH only supports SYNC|ASYNC option"
HOTKEYS_STARTED = "ERR hotkey tracking session already in progress"
HOTKEYS_ACTIVE = "ERR hotkey tracking session in progress, stop tracking first"
HOTKEYS_METRICS = "ERR METRICS parameter is required"
HOTKEYS_METRIC_COUNT = "ERR METRICS count must be > 0 and <= 2"
HOTKEYS_METRIC_TWICE = "ERR METRICS %s defined more than once!"
HOTKEYS_METRIC_MISSING = "ERR METRICS count does not match number of metric types provided"
HOTKEYS_NO_METRIC = "ERR METRICS no valid metrics passed. Supported: CPU|NET"
HOTKEYS_COUNT = "ERR COUNT must be between 1 and 64"
HOTKEYS_DURATION = "ERR DURATION must be between 1 and 1000000"
HOTKEYS_SAMPLE = "ERR SAMPLE ratio must be positive"
HOTKEYS_SLOTS = "ERR SLOTS parameter cannot be used in non-cluster mode"
COMMANDLOG_TYPE = ("ERR type should be one of the following: slow, large-request, "
                   "large-reply")
SLOWLOG_COUNT = "ERR count should be greater than or equal to -1"
NO_SAMPLES = "ERR No samples available for event '%s'"
DEBUG_NOT_ALLOWED = ("ERR DEBUG command not allowed. If the enable-debug-command option is set to "
                     "\"local\", you can run it from a local connection, otherwise you need to "
                     "set this option in the configuration file, and then restart the server.")
DEBUG_SUBCOMMAND = ("ERR DEBUG subcommand '%s' is not supported by this server, or not with %d "
                    "arguments")
DEBUG_SLEEP = "ERR value is out of range, must be between 0 and 3600"
DEBUG_RESP2 = "ERR RESP2 is not supported by this command"
DEBUG_PROTOCOL = "ERR Wrong protocol type name. Please use one of the following: %s|attrib|push"
NO_REPLICATION = "ERR This server has no replication"
PEER_ADDRESS = "ERR A peer is given as host:port or http://host:port, with its HTTP port"
OWN_ADDRESS = "ERR That is the address of this replica"
NO_SUCH_PEER = "ERR No such peer: %s"
REMOVES_ITSELF = "ERR A replica does not remove itself: CRDT.PEER REMOVE at another"
NOT_A_CLOCK = "ERR not a clock: CRDT.WAITFOR takes what CRDT.CLOCK TOKEN replies"
NOT_IN_SYNC = "ERR Not in sync with %s after %d ms"
NOT_REPAIRED = "ERR Not repaired: %s"


def integer(arg: bytes, text: str = NOT_INTEGER, low: int = -2**63, high: int = 2**63 - 1) -> int:
    """An argument as Redis reads integers: digits, perhaps a '-' before them; no '+', no space, no
    leading zero."""
    digits = arg[1:] if arg[:1] == b"-" else arg
    if (not digits.isdigit() or len(digits) > 19 or (digits[:1] == b"0" and arg != b"0")
        or not low <= int(arg) <= high):
        raise CommandError(text)
    return int(arg)


def time_limit(arg: bytes, now: int) -> int:
    """A time limit in milliseconds, 0 for none, that can be added to `now` (ms since 1970)."""
    ms = integer(arg, TIMEOUT_NOT_INTEGER)
    if ms < 0:
        raise CommandError(TIMEOUT_NEGATIVE)
    if ms > 2**63 - 1 - now:
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    return ms


class DamagedBatch(ValueError):
    """Bytes that should be a batch of ops are not, or say something this version does not
    understand."""


class DamagedState(ValueError):
    """Bytes that should be a message of a stream of state are not, or come out of turn."""


class UndeclaredActor(ValueError):
    """An op of an actor that is not declared, a declaration that contradicts a known one, or an op
    of this very process it never made."""


class CausalBufferFull(Exception):
    """Too many ops wait for ops they depend on: nothing is lost if the sender offers them again
    later."""


# Exit codes of `crdt-redis`: 0 stopped as asked; 1 an unforeseen failure (with a traceback in the
# log).
EXIT_CONFIG = 2         # a setting or a flag is wrong; also what argument errors give
EXIT_ADDRESS = 3        # an address or port cannot be listened on
# the data directory is locked, belongs to another replica, or holds a damaged segment
EXIT_DATA = 4
EXIT_FORCED = 130       # a second signal cut the orderly stop short


class StartError(Exception):
    """The server cannot start, or not stop as it should, or `check` found damage: lines for
    standard error, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
