//! What is done with entries in one step, as Redis runs it.
//!
//! What is longer than anything of ours is never sent: whoever can write to the store has no say in
//! how much a replica holds. What is no value or no lease by its form is none.

use crate::shared_store::script::Script;

/// Gives the value, unless it is the one of no use; else tries to take the lease. What has no end, or
/// a later one than a lease has, or another form, is none: nobody waits for it.
pub(in crate::shared_store) const CLAIM: Script = Script::new(
    "local length = redis.pcall('STRLEN', KEYS[1])\n\
     if type(length) == 'table' then\n\
     if not string.find(length.err, 'WRONGTYPE', 1, true) then return length end\n\
     length = 0\n\
     end\n\
     if length > 0 and length <= tonumber(ARGV[4]) then\n\
     local value = redis.call('GET', KEYS[1])\n\
     if ARGV[3] == '' or redis.sha1hex(value) ~= ARGV[3] then return {'value', value} end\n\
     end\n\
     if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'yours'} end\n\
     local left = redis.call('PTTL', KEYS[2])\n\
     if left >= 0 and left <= tonumber(ARGV[2]) and redis.pcall('STRLEN', KEYS[2]) == #ARGV[1] then\n\
     local holder = redis.call('GET', KEYS[2])\n\
     if not string.find(holder, '[^%w_-]') then return {'busy', holder} end\n\
     end\n\
     redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])\n\
     return {'yours'}",
);

/// Gives the value.
pub(super) const FETCH: Script = Script::new(
    "local length = redis.pcall('STRLEN', KEYS[1])\n\
     if type(length) == 'table' then\n\
     if string.find(length.err, 'WRONGTYPE', 1, true) then return false end\n\
     return length\n\
     end\n\
     if length > tonumber(ARGV[1]) then return false end\n\
     return redis.call('GET', KEYS[1])",
);

/// Keeps a value, and gives back the lease of whoever made it. One that may take the place of a
/// single other one only leaves any other where it is.
pub(in crate::shared_store) const STORE: Script = Script::new(
    "local stays = false\n\
     if ARGV[4] ~= 'any' then\n\
     local length = redis.pcall('STRLEN', KEYS[1])\n\
     stays = type(length) == 'number' and length > 0 and length <= tonumber(ARGV[5])\n\
     and redis.sha1hex(redis.call('GET', KEYS[1])) ~= ARGV[4]\n\
     end\n\
     if not stays then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end\n\
     if redis.pcall('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end\n\
     return stays and 0 or 1",
);

/// Keeps a lease from ending.
pub(super) const HOLD: Script = Script::new(
    "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n\
     return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
);

/// Gives a lease back.
pub(super) const RELEASE: Script = Script::new(
    "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n\
     return redis.call('DEL', KEYS[1])",
);

/// Drops a value that is still the one that was seen.
pub(in crate::shared_store) const DELETE: Script = Script::new(
    "local value = redis.pcall('GET', KEYS[1])\n\
     if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then return value end\n\
     if type(value) ~= 'string' or redis.sha1hex(value) ~= ARGV[1] then return 0 end\n\
     return redis.call('DEL', KEYS[1])",
);
