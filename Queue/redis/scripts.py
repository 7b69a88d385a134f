"""The scripts that the server runs: each is one command, so all of it is synced together or none.

KEYS are always the stream, its mark, its lock. ARGV[1] is the mark as it was when the queue was
opened: another one there, or none, says that somebody has removed the queue, or that the server
came back empty.

`allow-oom`: a full server has to be drained, and whoever drains it needs the lock first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from Queue.redis.errors import FOREIGN, REPLACED

GROUP = "publishers"

# XADD and the like are refused when the memory is full; what takes away is not.
_ALLOW_OOM = "#!lua flags=allow-oom\n"

_SAME_QUEUE = f"""
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then
    return redis.error_reply('{REPLACED} there is no such queue any more')
end
"""


def _needs(*commands: str) -> str:
    """Refuse before anything is done; in the middle the error would have no code of its own."""
    checks = " and ".join(
        f"redis.acl_check_cmd('{name}', KEYS[1]{arguments})"
        for name, _, arguments in (command.partition(" ") for command in commands)
    )
    names = ", ".join(command.partition(" ")[0] for command in commands)
    return f"""
if not ({checks}) then return redis.error_reply('NOPERM {names} on ' .. KEYS[1]) end
"""


@dataclass(frozen=True)
class LuaScript:
    """The text of a script, and the name by which a server knows it once it has run."""

    text: str

    @property
    def sha(self) -> str:
        """SHA-1 of the text."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


# ARGV: a mark for a new queue, or the one of the queue that has to be there, and which of the two.
# Returns the mark that counts, and the id that the stream gave last.
MAKE = LuaScript(f"""{_ALLOW_OOM}
local kind = redis.call('TYPE', KEYS[1]).ok
local mark = redis.call('GET', KEYS[2])
if kind ~= 'none' and (kind ~= 'stream' or not mark) then
    return redis.error_reply('{FOREIGN} the key ' .. KEYS[1] .. ' holds a ' .. kind)
end
if ARGV[2] == 'same' and (kind == 'none' or mark ~= ARGV[1]) then
    return redis.error_reply('{REPLACED} there is no such queue any more')
end
if kind == 'none' then
    mark = ARGV[1]
    redis.call('SET', KEYS[2], mark)
    redis.call('XGROUP', 'CREATE', KEYS[1], '{GROUP}', '0', 'MKSTREAM')
end
local about = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then return {{mark, about[i + 1]}} end
end
""")

# ARGV: mark, most records, bodies. Returns the last id; how many there are if it is full.
PUT = LuaScript(f"""{_needs("XADD ,'*','body',''")}{_SAME_QUEUE}
local depth = redis.call('XLEN', KEYS[1])
if depth + #ARGV - 2 > tonumber(ARGV[2]) then return depth end
local last
for i = 3, #ARGV do last = redis.call('XADD', KEYS[1], '*', 'body', ARGV[i]) end
return last
""")

# ARGV: mark, token, milliseconds. Takes or keeps the lock; returns whose it is.
HOLD = LuaScript(f"""{_ALLOW_OOM}{_SAME_QUEUE}
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[2] then return holder end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
""")

# ARGV: mark, token, the first id that stays. Returns whose the lock is; nothing is done if it is
# another one's. Nobody's is fine: what is removed here was published, whoever took it since.
COMMIT_UP_TO = LuaScript(f"""{_needs("XTRIM ,'MINID','0'")}{_SAME_QUEUE}
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[2] then return holder end
redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[3])
return ARGV[2]
""")

# ARGV: mark, token.
RELEASE = LuaScript("""
if redis.call('GET', KEYS[3]) == ARGV[2] then redis.call('DEL', KEYS[3]) end
""")

# ARGV: mark, ids.
COMMIT_EACH = LuaScript(f"""{_needs(f"XACK ,'{GROUP}','0'", "XDEL ,'0'")}{_SAME_QUEUE}
for first = 2, #ARGV, 1000 do  -- of what Lua's stack holds
    local last = math.min(first + 999, #ARGV)
    redis.call('XACK', KEYS[1], '{GROUP}', unpack(ARGV, first, last))
    redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
end
""")

# ARGV: mark, consumer, ids. Begins the lease anew of those that are still this consumer's. What it
# does not know of, as an answer was lost, is whoever's asks after the lease. JUSTID: no delivery.
RENEW = LuaScript(f"""{_SAME_QUEUE}
for i = 3, #ARGV do
    local id = ARGV[i]
    if #redis.call('XPENDING', KEYS[1], '{GROUP}', id, id, 1, ARGV[2]) == 1 then
        redis.call('XCLAIM', KEYS[1], '{GROUP}', ARGV[2], 0, id, 'JUSTID')
    end
end
""")

# ARGV: mark, consumer, another consumer, milliseconds, most. What the one has taken goes to the
# other, as if that had been idle for so long.
LEAVE = LuaScript(f"""{_SAME_QUEUE}
for _, each in ipairs(redis.call('XPENDING', KEYS[1], '{GROUP}', '-', '+', ARGV[5], ARGV[2])) do
    redis.call('XCLAIM', KEYS[1], '{GROUP}', ARGV[3], 0, each[1], 'IDLE', ARGV[4], 'JUSTID')
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], '{GROUP}', ARGV[2])
""")

# ARGV: mark, milliseconds. Forgets consumers that died and left nothing.
FORGET = LuaScript(f"""{_SAME_QUEUE}
for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], '{GROUP}')) do
    local about = {{}}
    for i = 1, #each, 2 do about[each[i]] = each[i + 1] end
    if about.pending == 0 and about.idle > tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], '{GROUP}', about.name)
    end
end
""")
