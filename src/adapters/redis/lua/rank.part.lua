-- Continues a page exactly: the rank of the first member behind (score, member), whether or not that is still there.
-- Lua compares strings by the server's locale, so bytes are compared one by one.
local function isBehind(memberA, memberB)
  for i = 1, math.min(#memberA, #memberB) do
    local a, b = byte(memberA, i), byte(memberB, i)
    if a ~= b then
      return a > b
    end
  end
  return #memberA > #memberB
end

local function rankBehind(key, score, member)
  local rank = call("ZRANK", key, member)
  if rank and tonumber(call("ZSCORE", key, member)) == score then
    return rank + 1
  end
  local low, high = 0, call("ZCARD", key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = call("ZRANGE", key, middle, middle, "WITHSCORES")
    local atScore = tonumber(at[2])
    if atScore > score or (atScore == score and isBehind(at[1], member)) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end
