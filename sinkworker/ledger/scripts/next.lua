-- next: the batches behind the one that the worker was handed last, by number and never by index (R2).
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] lease in ms   ARGV[5] after   ARGV[6] limit
-- Answers OK "number count size before last" payload … | EPOCH | CLOSED | CLAIM | LOST
local state, lane, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
local answer = waiting_batches(state, ARGV[2], lane, tonumber(ARGV[5]), tonumber(ARGV[6]))
if not answer then return {'LOST'} end
lane.deadline = now_ms() + ARGV[4]
write_lane(ARGV[2], lane)
table.insert(answer, 1, 'OK')
return answer
