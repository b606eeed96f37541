-- fail: the worker lets go of its lane in trouble; the reaper activates it again after a delay.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] delay in ms   ARGV[5] what the trouble is, or empty
-- ARGV[6] wake-up channel
-- Answers OK | EPOCH | CLOSED | CLAIM
local _, lane, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
activate(lane, now_ms() + ARGV[4])
write_lane(ARGV[2], lane)
if ARGV[5] ~= '' then redis.call('HSET', STATE, 'trouble', ARGV[2] .. ' ' .. ARGV[5]) end
redis.call('PUBLISH', ARGV[6], 'fail')
return {'OK'}
