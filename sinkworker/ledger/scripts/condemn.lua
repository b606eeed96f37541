-- condemn: the worker lets go of its lane because its head is undeliverable (P5). The first reason is the one kept.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] reason   ARGV[5] wake-up channel
-- Answers OK | EPOCH | CLOSED | CLAIM
local state, lane, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
activate(lane, 0)
write_lane(ARGV[2], lane)
if state.failure == '' then redis.call('HSET', STATE, 'failure', ARGV[4]) end
redis.call('PUBLISH', ARGV[5], 'condemn')
return {'OK'}
