-- claim: hand a lane to a worker. The same token again is a lost reply, and is granted again.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] activation   ARGV[4] token   ARGV[5] lease in ms
-- Answers OK generation layout settings | EPOCH | CLOSED | ACTIVATION | FORMAT of-the-ledger of-this-release
local state = read_state()
if not state then return without_state('EPOCH') end
if state.epoch ~= ARGV[1] then return {'EPOCH'} end
if state.closed then return {'CLOSED'} end
local lane = read_lane(ARGV[2])
if not lane or lane.activation ~= tonumber(ARGV[3]) or (lane.token ~= '' and lane.token ~= ARGV[4])
  or state.quiesced or (state.failure ~= '' and not waits_for_worker(state, ARGV[2], lane)) then
  return {'ACTIVATION'}
end
lane.token = ARGV[4]
lane.deadline = now_ms() + ARGV[5]
write_lane(ARGV[2], lane)
return {'OK', state.generation, state.layout, state.settings}
