-- condemn: the worker lets go of its lane, which cannot go on (P5). Of several reasons that of the first record is kept.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] reason   ARGV[5] wake-up channel
-- ARGV[6] cursor: everything of the lane up to there is confirmed, within the batch at its head, too
-- ARGV[7] cursor: other lanes are handed out up to there, that of the record that the reason is about, or the beginning
-- Answers OK | EPOCH | CLOSED | CLAIM
local state, lane, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
activate(lane, 0)
write_lane(ARGV[2], lane)
if earlier(redis.call('HGET', PROGRESS, ARGV[2]) or '-', ARGV[6]) then
  local fresh = redis.call('HSET', PROGRESS, ARGV[2], ARGV[6])
  redis.call('HSET', STATE, 'progress_total', state.progress_total + fresh)
end
if state.failure == '' or (ARGV[7] ~= '-' and earlier(ARGV[7], state.limit)) then
  redis.call('HSET', STATE, 'failure', ARGV[4])
end
if state.limit == '' or earlier(ARGV[7], state.limit) then redis.call('HSET', STATE, 'limit', ARGV[7]) end
redis.call('HSET', STATE, 'condemned', state.condemned .. ' ' .. ARGV[2])
redis.call('PUBLISH', ARGV[5], 'condemn')
return {'OK'}
