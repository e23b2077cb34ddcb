-- The due index: who is due when. Sorted sets of at most `fill` members each, so that they stay listpacks (about 30 B a
-- message instead of 130 B). A set is a bucket: level 3 is 16 ms wide and every level above eight times wider, up to 25
-- days at level 12; below level 3 a bucket of 16 ms is split by bits of the id, for the many that are due at once.
--
-- A message goes into the coarsest bucket over its due that has room. So a sparse future costs few buckets and a dense
-- one gets fine buckets by itself; nothing is ever moved. Example: of 200 messages spread over an hour the first 120 lie
-- in one bucket of level 12, the others in one of level 11. The level is noted in the record, and with it and the due
-- the bucket can always be computed again. The directory names the buckets that are not empty.
local fill = 120 -- below zset-max-listpack-entries, 128 by default; 64 took the same memory and CPU, 32 took 25 B more
local levelTop, levelTime = 12, 3
local directory = prefix .. "d"
local widths = {
  [0] = 16, 16, 16, 16, 128, 1024, 8192, 65536, 524288, 4194304, 33554432, 268435456, 2147483648,
}
local splits = { [0] = 1, 8, 64 }
local bucketsByLevel, touched = {}, {}

local function bucketAt(level, due, id)
  local width = widths[level]
  local offset = due % width
  local start = due - offset
  local place, bits = start / width, nil
  if level < levelTime then
    local high, low = byte(id, 10, 11)
    bits = ((high * 256 + low) % 512)
    bits = (bits - bits % splits[level]) / splits[level]
    place = place * 512 + bits
  end
  local buckets = bucketsByLevel[level]
  if not buckets then
    buckets = {}
    bucketsByLevel[level] = buckets
  end
  local bucket = buckets[place]
  if not bucket then
    local name = bits and pack(">BI6I2", level, start, bits) or pack(">BI6", level, start)
    bucket = { level = level, start = start, name = name, key = prefix .. "b" .. name }
    buckets[place] = bucket
  end
  return bucket
end

local function countOf(bucket)
  local count = bucket.count
  if not count then
    count = call("ZCARD", bucket.key)
    bucket.count = count
    bucket.isNew = count == 0
  end
  return count
end

-- The coarsest bucket with room, searched from `hint`: a bucket there that is in use and has room is taken at once. That
-- coarser ones are fuller is the rule, not a law; any bucket is right, some are merely tighter.
local function roomFor(hint, due, id)
  local best = bucketAt(hint, due, id)
  local count = countOf(best)
  if count > 0 and count < fill then
    return best
  end
  local low, high = 0, hint - 1
  if count == 0 then
    low, high = hint + 1, levelTop
  else
    best = nil
  end
  while low <= high do
    local middle = (low + high - (low + high) % 2) / 2
    local candidate = bucketAt(middle, due, id)
    if countOf(candidate) < fill then
      best = candidate
      low = middle + 1
    else
      high = middle - 1
    end
  end
  return best or bucketAt(0, due, id)
end

local function touch(bucket)
  if not bucket.isTouched then
    bucket.isTouched = true
    touched[#touched + 1] = bucket
  end
end

local function insert(bucket, due, member)
  local adds = bucket.adds
  if not adds then
    adds = {}
    bucket.adds = adds
    bucket.added = 0
    touch(bucket)
  end
  local n = bucket.added
  adds[n + 1] = due - bucket.start
  adds[n + 2] = member
  bucket.added = n + 2
  bucket.count = countOf(bucket) + 1
end

local function withdraw(level, due, id, member)
  local bucket = bucketAt(level, due, id)
  local removes = bucket.removes
  if not removes then
    removes = {}
    bucket.removes = removes
    bucket.removed = 0
    touch(bucket)
  end
  local n = bucket.removed + 1
  removes[n] = member
  bucket.removed = n
end

-- Writes what was noted, bucket by bucket. Removals go first: a member that was inserted earlier in the same call must
-- be written before it may be withdrawn again.
local function writeIndex()
  for i = 1, #touched do
    local bucket = touched[i]
    local adds, removes = bucket.adds, bucket.removes
    if removes then
      callWith("ZREM", bucket.key, removes)
    end
    if adds then
      callWith("ZADD", bucket.key, adds)
      if removes or bucket.isNew then
        call("ZADD", directory, bucket.start, bucket.name)
      end
    elseif call("EXISTS", bucket.key) == 0 then
      call("ZREM", directory, bucket.name)
    end
  end
  bucketsByLevel, touched = {}, {}
end
