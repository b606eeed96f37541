-- takeover: a new epoch with empty mailboxes, standing at the checkpoint.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] generation   ARGV[3] layout   ARGV[4] number of lanes   ARGV[5] settings
-- ARGV[6] 1: epochs of another generation do not count   ARGV[7] checkpoint
-- ARGV[8…] lane, cursor, … of the progress stored in KurrentDB
-- Answers OK lane cursor …  (the progress that holds) | EPOCH (not newer than the ledger's)
-- | FORMAT of-the-ledger of-this-release (only of a newer release: what an older one left is discarded)
local old = read_state()
local found = redis.call('HGET', STATE, 'format')
if found and tonumber(found) > tonumber(FORMAT) then return {'FORMAT', found, FORMAT} end
local discards = old and ARGV[6] == '1' and old.generation ~= ARGV[2]
if old and tonumber(ARGV[1]) <= tonumber(old.epoch) and not discards then return {'EPOCH'} end

-- R3: progress counts only within its generation and layout.
local progress = {}
if old and old.generation == ARGV[2] and old.layout == ARGV[3] then
  local kept = redis.call('HGETALL', PROGRESS)
  for i = 1, #kept, 2 do progress[kept[i]] = kept[i + 1] end
end
for i = 8, #ARGV, 2 do
  local lane, cursor = ARGV[i], ARGV[i + 1]
  if not progress[lane] or not earlier(cursor, progress[lane]) then progress[lane] = cursor end
end

redis.call('UNLINK', STATE, LANES, BATCHES, PAYLOADS, PROGRESS)
for number = 0, ARGV[4] - 1 do
  write_lane(number, {head = 1, tail = 0, activation = 0, resends = 0, due = 0, deadline = 0, token = ''})
end
local answer, total = {'OK'}, 0
for lane, cursor in pairs(progress) do
  redis.call('HSET', PROGRESS, lane, cursor)
  total = total + 1
  answer[#answer + 1] = lane
  answer[#answer + 1] = cursor
end
redis.call('HSET', STATE, 'format', FORMAT, 'epoch', ARGV[1], 'generation', ARGV[2], 'layout', ARGV[3],
  'lanes', ARGV[4], 'settings', ARGV[5], 'frontier', ARGV[7], 'counter', 0, 'batch_total', 0, 'bytes', 0,
  'progress_total', total, 'acked_records', 0, 'failure', '', 'limit', '', 'condemned', '', 'trouble', '', 'quiesced', 0, 'closed', 0)
return answer
