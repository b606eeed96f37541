-- dispatch: batches into their mailboxes and the frontier forward, at once. Without batches it is `advance`.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] counter   ARGV[3] frontier   ARGV[4] first resend in ms
-- ARGV[5…] lane, "count size before last", payload, … of each batch
-- Answers OK counter bytes held failure limit going-on trouble "lane depth …" "lane activation …"
--   | EPOCH | COUNTER of-the-ledger | LOST | ENDING | LANES
local state = read_state()
if not state or state.epoch ~= ARGV[1] then return {'EPOCH'} end
-- R1: a Redis that lost or rolled back data is noticed before it can hurt.
if state.counter ~= tonumber(ARGV[2]) then return {'COUNTER', tostring(state.counter)} end
local lanes = read_lanes(state)
if not whole(state, lanes) then return {'LOST'} end
if state.quiesced then return {'ENDING'} end
for i = 5, #ARGV, 3 do
  if not lanes[tonumber(ARGV[i])] then return {'LANES'} end
end

local now, fresh = now_ms(), {}
for i = 5, #ARGV, 3 do
  local number, payload = tonumber(ARGV[i]), ARGV[i + 2]
  local lane = lanes[number]
  if not lane.changed then
    lane = unpack_lane(lane.packed)
    lane.changed = true
    lanes[number] = lane
  end
  lane.tail = lane.tail + 1
  -- The payload is set first, since a full Redis refuses it: then nothing of this dispatch has been written.
  redis.call('HSET', PAYLOADS, batch_id(number, lane.tail), payload)
  redis.call('HSET', BATCHES, batch_id(number, lane.tail), ARGV[i + 1])
  state.batch_total = state.batch_total + 1
  state.bytes = state.bytes + #payload
  if depth(lane) == 1 and lane.token == '' and waits_for_worker(state, number, lane) then
    fresh[#fresh + 1] = number
    fresh[#fresh + 1] = activate(lane, now + ARGV[4])
  end
end
local mailboxes, going_on = {}, 0
for number = 0, state.lanes - 1 do
  local lane = lanes[number]
  if lane.changed then write_lane(number, lane) end
  if depth(lane) > 0 then
    mailboxes[#mailboxes + 1] = number
    mailboxes[#mailboxes + 1] = depth(lane)
  end
  if lane.held or waits_for_worker(state, number, lane) then going_on = going_on + 1 end
end
write_state('counter', state.counter + 1, 'frontier', ARGV[3], 'batch_total', state.batch_total,
  'bytes', state.bytes)
return {'OK', state.counter + 1, state.bytes, held(state, lanes), state.failure, state.limit, going_on,
  state.trouble:gsub('^%d+ ', '', 1), table.concat(mailboxes, ' '), table.concat(fresh, ' ')}
