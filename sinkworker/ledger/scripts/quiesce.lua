-- quiesce: the epoch is ending; nothing more is handed out.
-- KEYS: see _shared.lua
-- ARGV[1] epoch
-- Answers OK held | EPOCH | LOST
local state = read_state()
if not state or state.epoch ~= ARGV[1] then return {'EPOCH'} end
local lanes = read_lanes(state)
if not whole(state, lanes) then return {'LOST'} end
write_state('quiesced', 1)
return {'OK', held(state, lanes)}
