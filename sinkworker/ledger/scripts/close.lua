-- close: the epoch is over; what the final checkpoint is made of (R9). A second call answers the same.
-- KEYS: see _shared.lua
-- ARGV[1] epoch
-- Answers OK watermark failure lane cursor … | EPOCH | LOST
local state = read_state()
if not state or state.epoch ~= ARGV[1] then return {'EPOCH'} end
local lanes = read_lanes(state)
if not whole(state, lanes) then return {'LOST'} end
local answer = {'OK', low(state, lanes), state.failure}
for _, value in ipairs(redis.call('HGETALL', PROGRESS)) do answer[#answer + 1] = value end
write_state('quiesced', 1, 'closed', 1)
return answer
