-- ack: the batches at the head of a mailbox are done, once, and only for the claim that holds the lane.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] lease in ms   ARGV[5] wake-up channel
-- ARGV[6] after   ARGV[7] limit: hands out batches as `next` does, 0 for none
-- ARGV[8…] numbers of the batches, in order from the head
-- Answers OK "number count size before last" payload … | EPOCH | CLOSED | CLAIM | HEAD | LOST
local state, lane, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
local total, ids = #ARGV - 7, {}
for i = 1, total do
  local number = tonumber(ARGV[7 + i])
  if number ~= lane.head + i - 1 or number > lane.tail then return {'HEAD'} end
  ids[i] = batch_id(ARGV[2], number)
end
local done = redis.call('HMGET', BATCHES, unpack(ids))
for i = 1, total do
  if not done[i] then return {'LOST'} end
  done[i] = unpack_batch(done[i])
end
local after = math.max(tonumber(ARGV[6]), lane.head + total - 1)
local answer = waiting_batches(state, ARGV[2], lane, after, tonumber(ARGV[7]))
if not answer then return {'LOST'} end

local now = now_ms()
redis.call('HDEL', BATCHES, unpack(ids))
redis.call('HDEL', PAYLOADS, unpack(ids))
for _, batch in ipairs(done) do
  state.bytes = state.bytes - batch.size
  state.acked_records = state.acked_records + batch.count
end
local fresh = redis.call('HSET', PROGRESS, ARGV[2], done[total].last)
redis.call('HSET', STATE, 'batch_total', state.batch_total - total, 'bytes', state.bytes,
  'progress_total', state.progress_total + fresh, 'acked_records', state.acked_records)
if state.trouble:match('^%d+') == ARGV[2] then
  -- What the lanes waited for is back: the reaper need not wait for the end of their delays.
  redis.call('HSET', STATE, 'trouble', '')
  for number = 0, state.lanes - 1 do
    local resting = read_lane(number)
    if resting and not resting.held and resting.due > now then
      resting.due = now
      write_lane(number, resting)
    end
  end
end
lane.head = lane.head + total
lane.deadline = now + ARGV[4]
write_lane(ARGV[2], lane)
redis.call('PUBLISH', ARGV[5], 'ack')
table.insert(answer, 1, 'OK')
return answer
