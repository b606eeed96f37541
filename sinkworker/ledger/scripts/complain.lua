-- complain: the worker says what its lane waits for, until it acknowledges something.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] what   ARGV[5] wake-up channel
-- Answers OK | EPOCH | CLOSED | CLAIM
local _, _, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
write_state('trouble', ARGV[2] .. ' ' .. ARGV[4])
redis.call('PUBLISH', ARGV[5], 'complain')
return {'OK'}
