-- What every script starts from. KEYS[1] is the shard's prefix, such as `esc:{12}:`; its braces keep all keys derived
-- from it on one slot. No key name is made of text that a user chose.
local prefix = KEYS[1]
local call = redis.call
local sub, byte, char, concat = string.sub, string.byte, string.char, table.concat
local pack, unpackBytes = struct.pack, struct.unpack
local records, claims = prefix .. "r", prefix .. "c"

-- redis.call takes its arguments from Lua's stack, which holds 8,000 values; longer lists go in slices.
local function callWith(command, key, values)
  local count = #values
  if count == 0 then
    return
  end
  if count <= 4000 then
    return call(command, key, unpack(values))
  end
  for from = 1, count, 4000 do
    call(command, key, unpack(values, from, math.min(from + 3999, count)))
  end
end
