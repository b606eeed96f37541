-- reap: free the lanes whose claim was not renewed, and send the activations again that nobody claimed.
-- KEYS: see _shared.lua
-- ARGV[1] first resend in ms   ARGV[2] longest resend in ms   ARGV[3] lease in ms
-- Answers OK "lane activation lane activation …" "expired lane …" epoch
local state = read_state()
local lanes = state and not state.closed and read_lanes(state)
if not lanes then return {'OK', '', '', ''} end
local now = now_ms()
local activations, expired = {}, {}
for number = 0, state.lanes - 1 do
  local lane, changed, revived = unpack_lane(lanes[number].packed), false, false
  local waits = not state.quiesced and waits_for_worker(state, number, lane)
  -- What lies further ahead than it was ever set is of a clock that has been put back since.
  if lane.due > now + ARGV[2] then
    lane.due = now
    changed = true
  end
  if lane.deadline > now + ARGV[3] then
    lane.deadline = now + ARGV[3]
    changed = true
  end
  if lane.token ~= '' then
    if lane.deadline <= now then
      expired[#expired + 1] = number
      activate(lane, now + ARGV[1])
      revived = true
    end
  elseif waits and lane.due <= now then
    -- The same activation again: a new number would turn a slow queue into a livelock.
    lane.due = now + math.min(ARGV[1] * 2 ^ math.min(lane.resends, 10), tonumber(ARGV[2]))
    lane.resends = lane.resends + 1
    revived = true
  end
  if changed or revived then write_lane(number, lane) end
  if revived and waits then
    activations[#activations + 1] = number
    activations[#activations + 1] = lane.activation
  end
end
return {'OK', table.concat(activations, ' '), table.concat(expired, ' '), state.epoch}
