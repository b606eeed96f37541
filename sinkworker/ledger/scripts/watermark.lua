-- watermark: at or before which cursor everything is delivered, in one step (P1).
-- KEYS: see _shared.lua
-- Answers OK epoch generation cursor frontier acked_records in-flight-batches in-flight-bytes held | LOST (empty, or a key gone)
-- | FORMAT of-the-ledger of-this-release
local state = read_state()
if not state then return without_state('LOST') end
local lanes = read_lanes(state)
if not whole(state, lanes) then return {'LOST'} end
return {'OK', state.epoch, state.generation, low(state, lanes), state.frontier, state.acked_records,
  state.batch_total, state.bytes, held(state, lanes)}
