-- release: the worker lets go of its lane; what the mailbox still holds needs another activation.
-- KEYS: see _shared.lua
-- ARGV[1] epoch   ARGV[2] lane   ARGV[3] token   ARGV[4] first resend in ms   ARGV[5] wake-up channel
-- Answers OK activation (0: none needed) | EPOCH | CLOSED | CLAIM
local state, lane, refusal = held_lane(ARGV[1], ARGV[2], ARGV[3])
if refusal then return {refusal} end
lane.token = ''
local activation = 0
if not state.quiesced and waits_for_worker(state, ARGV[2], lane) then
  activation = activate(lane, now_ms() + ARGV[4])
end
write_lane(ARGV[2], lane)
redis.call('PUBLISH', ARGV[5], 'release')
return {'OK', activation}
