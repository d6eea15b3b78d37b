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

-- KEYS: registry. ARGV: segment key, most segments, number of the shared "other" segment.
-- Answers the segment's number; a new key gets the next one until the registry is full.
local function register_segment(keys, args)
  local number = redis.call('HGET', keys[1], args[1])
  if number then return tonumber(number) end
  local size = redis.call('HLEN', keys[1])
  if size >= tonumber(args[2]) then return tonumber(args[3]) end
  number = size + tonumber(args[3]) + 1
  redis.call('HSET', keys[1], args[1], number)
  return number
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
redis.register_function('samplit_publish', publish)
