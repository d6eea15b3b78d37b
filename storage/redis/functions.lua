#!lua name=samplit

-- What the data plane does in one step on the server. All keys of a call are in one slot: sticky records, dedupe marks
-- and the stream of a shard share its hash tag, and their names are built from the declared prefix KEYS[1].
--
-- A sticky record starts with its assigned_at: 4 bytes, little-endian Unix seconds.

local FULL = 'F'

local function is_full(stream, limit)
  return redis.call('XLEN', stream) >= limit
end

local function append(stream, payloads)
  if #payloads == 0 then return end
  local fields = {}
  for position, payload in ipairs(payloads) do
    fields[#fields + 1] = position
    fields[#fields + 1] = payload
  end
  redis.call('XADD', stream, '*', unpack(fields))
end

-- KEYS: record prefix, stream. ARGV: stream limit, then for each user: bucket, field, record, event.
-- An empty record looks up only. Answers for each user: the record found, false if there was none (and record is now
-- stored), or 'F' if there was none and the stream is full.
local function allocate(keys, args)
  local full = is_full(keys[2], tonumber(args[1]))
  local answers, events = {}, {}
  for i = 2, #args, 4 do
    local bucket = keys[1] .. args[i]
    local found = redis.call('HGET', bucket, args[i + 1])
    if not found and args[i + 2] ~= '' then
      if full then
        found = FULL
      else
        redis.call('HSET', bucket, args[i + 1], args[i + 2])
        events[#events + 1] = args[i + 3]
      end
    end
    answers[#answers + 1] = found
  end
  append(keys[2], events)
  return answers
end

-- KEYS: record prefix, stream, dedupe prefix. ARGV: stream limit, dedupe seconds, then for each conversion: bucket,
-- field, Unix seconds of the conversion, dedupe key, event.
-- Answers for each: 'R' recorded, 'D' duplicate, 'N' no assignment, 'F' stream full, or 'B' and the assignment's record
-- where the conversion is dated before it.
local function convert(keys, args)
  local full = is_full(keys[2], tonumber(args[1]))
  local answers, events = {}, {}
  for i = 3, #args, 5 do
    local record = redis.call('HGET', keys[1] .. args[i], args[i + 1])
    local answer
    if not record then
      answer = 'N'
    elseif tonumber(args[i + 2]) < struct.unpack('<I4', record) then
      answer = 'B' .. record
    elseif redis.call('EXISTS', keys[3] .. args[i + 3]) == 1 then
      answer = 'D'
    elseif full then
      answer = FULL
    else
      redis.call('SET', keys[3] .. args[i + 3], '', 'EX', args[2])
      events[#events + 1] = args[i + 4]
      answer = 'R'
    end
    answers[#answers + 1] = answer
  end
  append(keys[2], events)
  return answers
end

-- A segment registry is a hash: segment key -> number, negative where the segment is retired: its users keep it, and
-- nobody new is answered it. Keys of segments have a colon; '#last', '#active' and '#version' are the registry's own.
local OTHER = 1
local MOST_NUMBERS = 65535 -- what a sticky record has room for

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
-- Answers the segment's number; a new key gets the next one while there is room, and that of "other" else.
local function register_segment(keys, args)
  local number = registered(keys[1], args[1])
  if number ~= 0 then return number > 0 and number or OTHER end
  if registered(keys[1], '#active') >= tonumber(args[2]) then return OTHER end
  return add_segment(keys[1], args[1])
end

-- KEYS: registry. ARGV: how many segments to retire, their keys, then keys to bring in or back.
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

-- KEYS: registry. ARGV: pairs of segment key and number, negative where retired. Does nothing if there is one.
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

-- KEYS: hash. ARGV: field, version, value. Stores value unless a version as high is there: versions never go backwards.
local function publish(keys, args)
  local version_field = args[1] .. ':version'
  local known = tonumber(redis.call('HGET', keys[1], version_field) or '-1')
  if tonumber(args[2]) <= known then return 0 end
  redis.call('HSET', keys[1], version_field, args[2], args[1], args[3])
  return 1
end

redis.register_function('samplit_allocate', allocate)
redis.register_function('samplit_convert', convert)
redis.register_function('samplit_register_segment', register_segment)
redis.register_function('samplit_revise_segments', revise_segments)
redis.register_function('samplit_restore_segments', restore_segments)
redis.register_function('samplit_publish', publish)
