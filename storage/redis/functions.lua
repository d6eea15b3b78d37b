#!lua name=samplit_VERSION

-- The functions that Redis runs in one step. All keys of a call are in one slot: the sticky records, the dedupe marks, the
-- epoch, the stream and the number of its events share the hash tag of their shard. Names of keys are built from the
-- declared prefix KEYS[1].
--
-- A batch is one string of packed items, little-endian. The answer is one string with the answers to all items,
-- in their order. The caller sends the epoch that it knows. If Redis has another epoch, the records of the shard were made anew; if
-- it has none, they are being made. Then nothing is done, and the answer is nil.
--
-- A sticky record has 13 bytes: assigned_at (4, Unix seconds), variant (2), reason (1), segmentation version (2),
-- segment (2), and the day on which its user was last seen (2, days since 1970).

local EXISTING, NEW, NONE, FULL = 'E', 'W', 'N', 'F'
local RECORD = 13
local CLOCKS_DIFFER = 300 -- seconds: a conversion may be dated so much before its assignment, since clocks differ
local PADDING = ('\0'):rep(RECORD)

local function is_full(waiting, limit)
  return tonumber(redis.call('GET', waiting) or '0') >= limit
end

local function append(stream, waiting, payloads)
  if #payloads == 0 then return end
  local fields = {}
  for position, payload in ipairs(payloads) do
    fields[2 * position - 1] = position
    fields[2 * position] = payload
  end
  redis.call('XADD', stream, '*', unpack(fields))
  redis.call('INCRBY', waiting, #payloads)
end

-- Bytes 5 and 6 of the user key name the bucket, the next 8 are the field. find_experiments knows that too.
local function location(prefix, experiment, key)
  local low, high = key:byte(5, 6)
  return prefix .. experiment .. ':' .. (low + 256 * high), key:sub(7, 14)
end

-- A VisitEvent of storage.events, in MessagePack.
local function visit(experiment, key, day)
  return '\148\161v' .. struct.pack('>BI4BBc16BI2', 206, experiment, 196, 16, key, 205, day)
end

-- KEYS: record prefix, stream, epoch, waiting. ARGV: epoch; most events; items of experiment (4), day (2), user key (16),
-- size of the event (2), and where that is not 0, the first 11 bytes of the record, and the event.
-- An item without an event only looks up. The answer for each: EXISTING, NEW, NONE or FULL, and the record that is there.
-- The first visit of a user on a day is noted in the record and added to the stream.
local function allocate(keys, args)
  if redis.call('GET', keys[3]) ~= args[1] then return false end
  local full = is_full(keys[4], tonumber(args[2]))
  local items, position = args[3], 1
  local answers, events = {}, {}
  while position <= #items do
    local experiment, day, key, size
    experiment, day, key, size, position = struct.unpack('<I4I2c16I2', items, position)
    local bucket, field = location(keys[1], experiment, key)
    local found = redis.call('HGET', bucket, field)
    local answer
    if found then
      if struct.unpack('<I2', found, RECORD - 1) < day and not full then
        found = found:sub(1, RECORD - 2) .. struct.pack('<I2', day)
        redis.call('HSET', bucket, field, found)
        events[#events + 1] = visit(experiment, key, day)
      end
      answer = EXISTING .. found
    elseif size == 0 then
      answer = NONE .. PADDING
    elseif full then
      answer = FULL .. PADDING
    else
      local record = items:sub(position, position + RECORD - 3) .. struct.pack('<I2', day)
      redis.call('HSET', bucket, field, record)
      events[#events + 1] = items:sub(position + RECORD - 2, position + RECORD - 3 + size)
      answer = NEW .. record
    end
    if size > 0 then position = position + RECORD - 2 + size end
    answers[#answers + 1] = answer
  end
  append(keys[2], keys[4], events)
  return table.concat(answers)
end

-- KEYS: record prefix, stream, epoch, waiting, dedupe prefix. ARGV: epoch; most events; dedupe seconds; items of
-- experiment (4), Unix seconds of the conversion (4), user key (16), dedupe mark (16), size of the event (2), and the event.
-- Answers for each: 'R' recorded, 'D' duplicate, 'N' no assignment, 'F' stream full, or 'B' dated long before the
-- assignment; and the assignment's seconds (4).
local function convert(keys, args)
  if redis.call('GET', keys[3]) ~= args[1] then return false end
  local full = is_full(keys[4], tonumber(args[2]))
  local items, position = args[4], 1
  local answers, events = {}, {}
  while position <= #items do
    local experiment, seconds, key, mark, size
    experiment, seconds, key, mark, size, position = struct.unpack('<I4I4c16c16I2', items, position)
    local record = redis.call('HGET', location(keys[1], experiment, key))
    local assigned = record and struct.unpack('<I4', record) or 0
    local answer
    if not record then
      answer = 'N'
    elseif seconds + CLOCKS_DIFFER < assigned then
      answer = 'B'
    elseif redis.call('EXISTS', keys[5] .. mark) == 1 then
      answer = 'D'
    elseif full then
      answer = 'F'
    else
      redis.call('SET', keys[5] .. mark, '', 'EX', args[3])
      events[#events + 1] = items:sub(position, position + size - 1)
      answer = 'R'
    end
    position = position + size
    answers[#answers + 1] = answer .. struct.pack('<I4', assigned)
  end
  append(keys[2], keys[4], events)
  return table.concat(answers)
end

-- KEYS: record prefix, epoch. ARGV: epoch; numbers of experiments (4 each); user keys (16 each).
-- Answers for each user how many of these experiments the user is in (4), and their numbers (4 each).
local function find_experiments(keys, args)
  if redis.call('GET', keys[2]) ~= args[1] then return false end
  local numbers, heads = {}, {}
  for position = 1, #args[2], 4 do
    local number = struct.unpack('<I4', args[2], position)
    numbers[#numbers + 1] = number
    heads[#heads + 1] = keys[1] .. number .. ':'
  end
  local answers = {}
  for position = 1, #args[3], 16 do
    local low, high = args[3]:byte(position + 4, position + 5)
    local bucket, field = low + 256 * high, args[3]:sub(position + 6, position + 13)
    local found = {}
    for index, head in ipairs(heads) do
      if redis.call('HEXISTS', head .. bucket, field) == 1 then
        found[#found + 1] = struct.pack('<I4', numbers[index])
      end
    end
    answers[#answers + 1] = struct.pack('<I4', #found) .. table.concat(found)
  end
  return table.concat(answers)
end

-- KEYS: stream, waiting. ARGV: ids of entries, each before how many events it has. Deletes those that are there.
local function forget(keys, args)
  for i = 1, #args, 2 do
    if redis.call('XDEL', keys[1], args[i]) == 1 then redis.call('DECRBY', keys[2], args[i + 1]) end
  end
  if redis.call('XLEN', keys[1]) == 0 then redis.call('DEL', keys[2]) end
end

-- KEYS: record prefix. ARGV: items of experiment (4), user key (16), record. Writes what Postgres knows of assignments.
local function restore(keys, args)
  local items, position = args[1], 1
  while position <= #items do
    local experiment, key, record
    experiment, key, record, position = struct.unpack('<I4c16c13', items, position)
    local bucket, field = location(keys[1], experiment, key)
    redis.call('HSET', bucket, field, record)
  end
end

-- A segment registry is a hash: segment key -> number. The number is negative if the segment is retired: users keep it,
-- and new users do not get it. Segment keys have a colon; '#last', '#active' and '#version' are the registry's own.
local OTHER = 1
local MOST_NUMBERS = 65535 -- the largest number that a sticky record can store

local function registered(registry, field)
  return tonumber(redis.call('HGET', registry, field) or '0')
end

local function add_segment(registry, key)
  local number = math.max(registered(registry, '#last'), OTHER) + 1
  if number > MOST_NUMBERS then return OTHER end
  redis.call('HSET', registry, '#last', number, key, number)
  redis.call('HINCRBY', registry, '#active', 1)
  return number
end

-- KEYS: registry. ARGV: segment key, most segments.
-- Answers the number of the segment. A new key gets the next number while there are fewer than the most segments, and the
-- number of "other" after that. 0: there is no registry, and only Postgres knows which numbers are taken.
local function register_segment(keys, args)
  if registered(keys[1], '#version') == 0 then return 0 end
  local number = registered(keys[1], args[1])
  if number ~= 0 then return number > 0 and number or OTHER end
  if registered(keys[1], '#active') >= tonumber(args[2]) then return OTHER end
  return add_segment(keys[1], args[1])
end

-- KEYS: registry. ARGV: how many segments to retire, their keys, then the keys of segments to admit or readmit.
local function revise_segments(keys, args)
  local retired = tonumber(args[1])
  for i = 2, #args do
    local number = registered(keys[1], args[i])
    if i <= retired + 1 then
      if number > 0 then
        redis.call('HSET', keys[1], args[i], -number)
        redis.call('HINCRBY', keys[1], '#active', -1)
      end
    elseif number == 0 then
      add_segment(keys[1], args[i])
    elseif number < 0 then
      redis.call('HSET', keys[1], args[i], -number)
      redis.call('HINCRBY', keys[1], '#active', 1)
    end
  end
  return redis.call('HINCRBY', keys[1], '#version', 1)
end

-- KEYS: registry. ARGV: pairs of segment key and number, negative if retired. Does nothing if the registry exists.
local function restore_segments(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return 0 end
  local last, active = OTHER, 0
  for i = 1, #args, 2 do
    local number = tonumber(args[i + 1])
    redis.call('HSET', keys[1], args[i], number)
    last = math.max(last, math.abs(number))
    if number > 0 then active = active + 1 end
  end
  redis.call('HSET', keys[1], '#last', last, '#active', active, '#version', 1)
  return 1
end

-- KEYS: an experiment's hash. ARGV: revision, posterior version, posterior ('' with version -1), configuration encrypted,
-- and as text. Stores the newer configuration and the newer posterior in one step: versions never go backwards. The
-- configuration may be left out; where it is needed then, nothing is stored and the answer is -1. Else the answer has bit
-- 1 where the configuration changed, and bit 2 where the posterior did. The text is for servers of the release before.
local function publish_experiment(keys, args)
  local known = redis.call('HMGET', keys[1], 'sealed:version', 'posterior:version', 'config:version')
  local changed = 0
  if tonumber(args[1]) > tonumber(known[1] or '-1') then
    if not args[4] then return -1 end
    redis.call('HSET', keys[1], 'sealed:version', args[1], 'sealed', args[4])
    if tonumber(args[1]) > tonumber(known[3] or '-1') then
      redis.call('HSET', keys[1], 'config:version', args[1], 'config', args[5])
    end
    changed = 1
  end
  if tonumber(args[2]) > tonumber(known[2] or '-1') then
    redis.call('HSET', keys[1], 'posterior:version', args[2], 'posterior', args[3])
    changed = changed + 2
  end
  return changed
end

-- KEYS: the index. ARGV: field, revision, entry. Stores the entry unless one of the same or a newer revision is there.
-- '#changes' counts what was stored.
local function publish_index_entry(keys, args)
  local version_field = args[1] .. ':version'
  local known = tonumber(redis.call('HGET', keys[1], version_field) or '-1')
  if tonumber(args[2]) <= known then return 0 end
  redis.call('HSET', keys[1], version_field, args[2], args[1], args[3])
  redis.call('HINCRBY', keys[1], '#changes', 1)
  return 1
end

-- KEYS: hash. ARGV: field, value, new value. Replaces the value unless another one is there by now. Answers 1 if it did.
local function replace_value(keys, args)
  if redis.call('HGET', keys[1], args[1]) ~= args[2] then return 0 end
  redis.call('HSET', keys[1], args[1], args[3])
  return 1
end

-- KEYS: hash. Answers its fields and values in turn, and deletes it.
local function take(keys)
  local all = redis.call('HGETALL', keys[1])
  redis.call('DEL', keys[1])
  return all
end

redis.register_function('samplit_VERSION_allocate', allocate)
redis.register_function('samplit_VERSION_convert', convert)
redis.register_function('samplit_VERSION_find_experiments', find_experiments)
redis.register_function('samplit_VERSION_forget', forget)
redis.register_function('samplit_VERSION_restore', restore)
redis.register_function('samplit_VERSION_register_segment', register_segment)
redis.register_function('samplit_VERSION_revise_segments', revise_segments)
redis.register_function('samplit_VERSION_restore_segments', restore_segments)
redis.register_function('samplit_VERSION_publish_experiment', publish_experiment)
redis.register_function('samplit_VERSION_publish_index_entry', publish_index_entry)
redis.register_function('samplit_VERSION_replace_value', replace_value)
redis.register_function('samplit_VERSION_take', take)
