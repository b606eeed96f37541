-- What the transitions share. The loader puts this text before each of them; it is never run alone.
--
-- Every transition is called with the same five keys, all under the connector's hash tag:
-- KEYS[1] state     hash: format, epoch, generation, layout, settings, lanes, counter, frontier, batch_total, bytes,
--                   progress_total, acked_records, failure, limit (cursor), condemned ("lane lane …"),
--                   trouble ("lane what"), quiesced, closed
-- KEYS[2] lanes     hash: lane → "head tail activation resends due deadline token"; always one field per lane
-- KEYS[3] batches   hash: "lane:number" → "count size before last"
-- KEYS[4] payloads  hash: "lane:number" → the batch's bytes
-- KEYS[5] progress  hash: lane → cursor of the last record known to be delivered
--
-- batch_total and progress_total are what HLEN of the other keys must be: an evicted key is not an empty one (R1).
-- Every answer is an array that begins with one word: OK, or why not. Nothing is written unless the answer is OK.
--
-- Releases with other scripts may work on one ledger at once, as long as its format is the same: see CONTRIBUTING.md.

local STATE, LANES, BATCHES, PAYLOADS, PROGRESS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FORMAT = '1'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The epoch's state; nil where there is none, or one that another release wrote in another format.
local function read_state()
  local value = redis.call('HMGET', STATE, 'format', 'epoch', 'generation', 'layout', 'settings', 'lanes', 'counter',
    'frontier', 'batch_total', 'bytes', 'progress_total', 'acked_records', 'failure', 'quiesced', 'closed', 'trouble',
    'limit', 'condemned')
  if value[1] ~= FORMAT then return nil end
  return {
    epoch = value[2], generation = value[3], layout = value[4], settings = value[5], lanes = tonumber(value[6]),
    counter = tonumber(value[7]), frontier = value[8], batch_total = tonumber(value[9]), bytes = tonumber(value[10]),
    progress_total = tonumber(value[11]), acked_records = tonumber(value[12]), failure = value[13],
    quiesced = value[14] == '1', closed = value[15] == '1', trouble = value[16] or '',
    -- A release that knew no limit handed out nothing after a failure.
    limit = value[17] or (value[13] == '' and '' or '-'), condemned = value[18] or '',
  }
end

-- The answer where there is no state: of another release's format, or the word for none at all.
local function without_state(word)
  local found = redis.call('HGET', STATE, 'format')
  return found and found ~= FORMAT and {'FORMAT', found, FORMAT} or {word}
end

local function unpack_lane(packed)
  local head, tail, activation, resends, due, deadline, token =
    packed:match('^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return {
    head = tonumber(head), tail = tonumber(tail), activation = tonumber(activation), resends = tonumber(resends),
    due = tonumber(due), deadline = tonumber(deadline), token = token, held = token ~= '',
  }
end

local function depth(lane) return lane.tail - lane.head + 1 end

local function read_lane(number)
  local packed = redis.call('HGET', LANES, number)
  return packed and unpack_lane(packed)
end

-- Deletes before it sets: deleting is allowed in a Redis that is full, and so is all that a script writes after it.
-- Otherwise no worker could claim a lane and drain what fills the Redis.
local function write_lane(number, lane)
  redis.call('HDEL', LANES, number)
  redis.call('HSET', LANES, number, string.format('%d %d %d %d %d %d %s',
    lane.head, lane.tail, lane.activation, lane.resends, lane.due, lane.deadline, lane.token))
end

-- Sets fields of the state, and deletes before that, too: how it stands can be seen, and ended, in a Redis that is full.
local function write_state(...)
  redis.call('HDEL', STATE, '')
  redis.call('HSET', STATE, ...)
end

-- Every lane by its number, only as far as counting needs it: reading them whole would double what a dispatch costs.
-- Answers nil where a lane is missing.
local function read_lanes(state)
  local flat, lanes = redis.call('HGETALL', LANES), {}
  for i = 1, #flat, 2 do
    local packed = flat[i + 1]
    local head, tail = packed:match('^(%d+) (%d+)')
    lanes[tonumber(flat[i])] = {head = tonumber(head), tail = tonumber(tail), held = packed:sub(-1) ~= ' ', packed = packed}
  end
  for number = 0, state.lanes - 1 do
    if not lanes[number] then return nil end
  end
  return lanes
end

-- Whether no key was lost: everything that was counted when it was written is there (R1).
local function whole(state, lanes)
  if not lanes then return false end
  local waiting = 0
  for number = 0, state.lanes - 1 do waiting = waiting + depth(lanes[number]) end
  return waiting == state.batch_total and redis.call('HLEN', BATCHES) == waiting
    and redis.call('HLEN', PAYLOADS) == waiting and redis.call('HLEN', PROGRESS) == state.progress_total
end

local function held(state, lanes)
  local count = 0
  for number = 0, state.lanes - 1 do
    if lanes[number].held then count = count + 1 end
  end
  return count
end

-- A new right to claim the lane, which makes every earlier activation and claim stale.
local function activate(lane, due)
  lane.activation = lane.activation + 1
  lane.token = ''
  lane.due = due
  lane.resends = 0
  return lane.activation
end

local function batch_id(lane, number) return string.format('%d:%d', lane, number) end

local function unpack_batch(packed)
  local count, size, before, last = packed:match('^(%d+) (%d+) (%S+) (%S+)$')
  return {count = tonumber(count), size = tonumber(size), before = before, last = last}
end

-- Whether cursor a comes before cursor b. The beginning is compared apart: how a hyphen sorts depends on the locale.
local function earlier(a, b)
  if a == '-' or b == '-' then return a == '-' and b ~= '-' end
  return a:sub(1, 41) < b:sub(1, 41)
end

-- The watermark: the smallest of the frontier and of the batches' befores. Only for a ledger that is whole.
local function low(state, lanes)
  local heads, lowest = {}, state.frontier
  for number = 0, state.lanes - 1 do
    if depth(lanes[number]) > 0 then heads[#heads + 1] = batch_id(number, lanes[number].head) end
  end
  if #heads == 0 then return lowest end
  for _, packed in ipairs(redis.call('HMGET', BATCHES, unpack(heads))) do
    local before = packed:match('^%d+ %d+ (%S+)')
    if earlier(before, lowest) then lowest = before end
  end
  return lowest
end

-- The lane of a worker's claim, or the word for why it is not held. R2: the token decides, not epoch and activation.
local function held_lane(epoch, number, token)
  local state = read_state()
  if not state or state.epoch ~= epoch then return nil, nil, 'EPOCH' end
  if state.closed then return nil, nil, 'CLOSED' end
  local lane = read_lane(number)
  if not lane or token == '' or lane.token ~= token then return nil, nil, 'CLAIM' end
  return state, lane
end

-- Whether a batch may be handed out: after a failure only one that begins before the limit.
local function before_limit(state, batch)
  return state.limit == '' or earlier(unpack_batch(batch).before, state.limit)
end

-- Whether the lane has something that a worker may be handed.
local function waits_for_worker(state, number, lane)
  if depth(lane) == 0 then return false end
  if state.failure == '' then return true end
  if (' ' .. state.condemned .. ' '):find(' ' .. number .. ' ', 1, true) then return false end
  local batch = redis.call('HGET', BATCHES, batch_id(number, lane.head))
  return batch and before_limit(state, batch)
end

-- The batches of a lane behind number `after` that may be handed out, as {"number count size before last", payload, …};
-- nil where one is lost.
local function waiting_batches(state, number, lane, after, limit)
  local first = math.max(after + 1, lane.head)
  local ids, answer = {}, {}
  for n = first, math.min(first + limit - 1, lane.tail) do ids[#ids + 1] = batch_id(number, n) end
  if #ids == 0 then return answer end
  local batches = redis.call('HMGET', BATCHES, unpack(ids))
  local payloads = redis.call('HMGET', PAYLOADS, unpack(ids))
  for i = 1, #ids do
    if not batches[i] or not payloads[i] then return nil end
  end
  for i = 1, #ids do
    if state.quiesced or not before_limit(state, batches[i]) then break end
    answer[2 * i - 1] = string.format('%d %s', first + i - 1, batches[i])
    answer[2 * i] = payloads[i]
  end
  return answer
end

