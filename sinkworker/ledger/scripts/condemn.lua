-- condemn: the worker lets go of its lane because nothing more can be delivered (P5). The first reason is the one kept.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] reason   ARGV[5] wake-up channel
-- ARGV[6] cursor: everything of the lane up to there is confirmed, within the batch at its head, too
-- Answers OK | EPOCH | CLOSED | CLAIM
local state, lane, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
activate(lane, 0)
write_lane(ARGV[2], lane)
if earlier(redis.call('HGET', PROGRESS, ARGV[2]) or '-', ARGV[6]) then
  local fresh = redis.call('HSET', PROGRESS, ARGV[2], ARGV[6])
  redis.call('HSET', STATE, 'progress_total', state.progress_total + fresh)
end
if state.failure == '' then redis.call('HSET', STATE, 'failure', ARGV[4]) end
redis.call('PUBLISH', ARGV[5], 'condemn')
return {'OK'}
