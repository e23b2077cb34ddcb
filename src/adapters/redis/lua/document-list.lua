#!lua flags=no-writes
-- A page of documents in the order of their names.
-- KEYS  prefix of a kind (see document-write)
-- ARGV  1 lowest name, 2 highest name, as ZRANGE BYLEX wants them · 3 limit · 4 bytes after which the page ends
-- reply { 1 when it ended because of its size, else 0, name, document, name, document, … }
local names = redis.call("ZRANGE", KEYS[1] .. "n", ARGV[1], ARGV[2], "BYLEX", "LIMIT", 0, ARGV[3])
local reply, bytes = { 0 }, 0
for i = 1, #names do
  local document = redis.call("HGET", KEYS[1] .. "h", names[i])
  reply[#reply + 1] = names[i]
  reply[#reply + 1] = document
  bytes = bytes + #document
  if bytes > tonumber(ARGV[4]) then
    reply[1] = 1
    break
  end
end
return reply
