-- One batch of state operations, atomically: what gateway/state/memory.py does, on Redis' own structures.
--
-- KEYS     the keys of the operations, in their order: ten for a top share or a quantile, one for all others.
-- ARGV[1]  words and whole numbers between spaces, read from left to right; redis.py writes them.
-- ARGV[2…] the texts that are counted and the owners of leases, in their order.
-- Answer   whole numbers between spaces: two for each sight, three for each take, one for each recall.
--
-- Time is the batch's, in µs since 1970; the server's clock only cleans up. Lua numbers are doubles: whole numbers are
-- exact up to 2^53 (µs last until the year 2255), but print as 1.79e+15, so every number leaves through `whole`.

local call = redis.call
local words, word_at, key_at, text_at = {}, 0, 0, 1
for word in string.gmatch(ARGV[1], "%S+") do words[#words + 1] = word end

local function word() word_at = word_at + 1; return words[word_at] end
local function number() return tonumber(word()) end
local function key() key_at = key_at + 1; return KEYS[key_at] end
local function text() text_at = text_at + 1; return ARGV[text_at] end
local function whole(n) return string.format("%.0f", n) end

local SLICES, LOOK, SECOND, LARGEST, HALF = number(), "-", 1000000, 2 ^ 53 - 1, 2 ^ 26
local at, over = number(), number()

-- `operations.bounded`: past this a double no longer tells whole numbers apart, and prints as inf in the end.
local function bounded(n) return math.max(-LARGEST, math.min(LARGEST, n)) end

-- Count, sum: one string, «newest c0 … c7»; slice s is counted in the ring at s % SLICES.
local function counter(slice, ttl, cap, counted)
  local name = key()
  local kept = call("GET", name)
  if not kept and counted == LOOK then return 0, 0 end
  local cells = {}
  for cell in string.gmatch(kept or "", "%S+") do cells[#cells + 1] = tonumber(cell) end
  local newest = cells[1] or -1
  local fresh = slice > newest
  if fresh then
    for passed = math.max(newest + 1, slice - SLICES + 1), slice do cells[2 + passed % SLICES] = 0 end
    newest = slice
  end
  if counted ~= LOOK and slice > newest - SLICES then
    cells[2 + slice % SLICES] = bounded(cells[2 + slice % SLICES] + tonumber(counted))
  end
  local high, low = 0, 0 -- summed apart, so that slices which cancel out leave the exact rest
  for place = 2, SLICES + 1 do
    high = high + math.floor(cells[place] / HALF)
    low = low + cells[place] % HALF
  end
  if fresh or counted ~= LOOK then
    cells[1] = newest
    for place = 1, SLICES + 1 do cells[place] = whole(cells[place]) end
    call("SET", name, table.concat(cells, " "), "PX", ttl)
  end
  return bounded(high * HALF + low), 0
end

-- Distinct: one sorted set, each value scored by its newest slice. Two members are no values (those start with : or #):
-- «newest», and «full», scored by the slice from which on no value that found no place is covered any more.
local function distinct(slice, ttl, cap, counted)
  local name = key()
  local value = counted ~= LOOK and text()
  local newest = tonumber(call("ZSCORE", name, "newest") or -1)
  if newest < 0 and not value then return 0, 0 end
  local changed = slice > newest
  if changed then
    call("ZREMRANGEBYSCORE", name, "-inf", whole(slice - SLICES))
    call("ZADD", name, whole(slice), "newest")
    newest = slice
  end
  local full = tonumber(call("ZSCORE", name, "full") or -1)
  local size = call("ZCARD", name) - 1 - (full < 0 and 0 or 1)
  if value and slice > newest - SLICES then
    local known = tonumber(call("ZSCORE", name, value) or -1)
    changed = true
    if known < 0 and size >= cap then
      full = math.max(full, slice + SLICES)
      call("ZADD", name, whole(full), "full")
    elseif known < slice then
      call("ZADD", name, whole(slice), value)
      size = size + (known < 0 and 1 or 0)
    end
  end
  if changed then call("PEXPIRE", name, ttl) end
  return size, full > newest and 1 or 0
end

-- Tallies: a string «newest whole», the totals of each value, and a ring of hashes with each slice's counts. A top share keeps
-- its totals in a sorted set, a quantile in a hash.
local function turn(weigh, rings, totals, newest, slice, sum)
  if slice - newest >= SLICES then
    call("DEL", totals, unpack(rings))
    return 0
  end
  for passed = newest + 1, slice do
    local ring = rings[1 + passed % SLICES]
    local left = call("HGETALL", ring)
    for place = 1, #left, 2 do
      weigh(totals, left[place], -left[place + 1])
      sum = sum - left[place + 1]
    end
    call("DEL", ring)
  end
  return sum
end

-- kind: `named` says under which name a value is counted, `weigh` changes its total, `read` answers.
local function tally(kind, slice, ttl, detail, counted)
  local name, totals, rings = key(), key(), {}
  for place = 1, SLICES do rings[place] = key() end
  local value = counted ~= LOOK and text()
  local kept = call("GET", name)
  if not kept and not value then return 0, 0 end
  local newest, sum = string.match(kept or "-1 0", "(%S+) (%S+)")
  newest, sum = tonumber(newest), tonumber(sum)
  local changed = slice > newest
  if changed then
    sum = turn(kind.weigh, rings, totals, newest, slice, sum)
    newest = slice
  end
  if value and slice > newest - SLICES then
    value = kind.named(totals, value, detail)
    local ring = rings[1 + slice % SLICES]
    call("HINCRBY", ring, value, 1)
    call("PEXPIRE", ring, ttl)
    kind.weigh(totals, value, 1)
    call("PEXPIRE", totals, ttl)
    sum, changed = sum + 1, true
  end
  if changed then call("SET", name, whole(newest) .. " " .. whole(sum), "PX", ttl) end
  return kind.read(totals, sum, detail), sum
end

-- Top share: «others» (past the cap) is scored below zero, so that the highest score is always a value's.
local OTHERS, shares = "others", {}

function shares.named(totals, value, cap)
  if not call("ZSCORE", totals, value) and call("ZCARD", totals) >= cap then return OTHERS end
  return value
end

function shares.weigh(totals, value, change)
  local left = call("ZINCRBY", totals, whole(value == OTHERS and -change or change), value)
  if tonumber(left) == 0 then call("ZREM", totals, value) end
end

function shares.read(totals)
  local top = call("ZREVRANGE", totals, 0, 0, "WITHSCORES")
  return math.max(0, tonumber(top[2] or 0))
end

-- Quantile: values are bins (whole numbers, `operations.bin_of`); answers the one that stands at the rank (millionths).
local bins = {}

function bins.named(totals, bin) return bin end

function bins.weigh(totals, bin, change)
  if call("HINCRBY", totals, bin, change) == 0 then call("HDEL", totals, bin) end
end

function bins.read(totals, sum, rank)
  local kept, ordered, count = call("HGETALL", totals), {}, {}
  for place = 1, #kept, 2 do
    ordered[#ordered + 1] = tonumber(kept[place])
    count[ordered[#ordered]] = tonumber(kept[place + 1])
  end
  table.sort(ordered)
  local left = math.max(1, math.ceil(sum * rank / 1000000))
  for _, bin in ipairs(ordered) do
    left = left - count[bin]
    if left <= 0 then return bin end
  end
  return 0
end

local function top_share(...) return tally(shares, ...) end
local function quantile(...) return tally(bins, ...) end

local SIGHTS = { count = counter, sum = counter, distinct = distinct, top_share = top_share, quantile = quantile }

-- Fixed: a string «count ends». `own` is the end of the grid cell that holds the time in question.
local fixed, moving = {}, {}

function fixed.kept(name)
  local count, ends = string.match(call("GET", name) or "0 0", "(%S+) (%S+)")
  return tonumber(count), tonumber(ends)
end

function fixed.standing(take)
  local count, ends = fixed.kept(take.name)
  if ends > at then return count, ends end
  return 0, take.own
end

function fixed.hit(take)
  local count, ends = fixed.standing(take)
  call("SET", take.name, whole(count + take.cost) .. " " .. whole(ends), "PX", take.ttl)
end

function fixed.give_back(take)
  local count, ends = fixed.kept(take.name)
  if count > 0 and ends == take.own then
    call("SET", take.name, whole(count - 1) .. " " .. whole(ends), "PX", take.ttl)
  end
end

-- Moving: a sorted set of «time:n», scored by time; n numbers the units of one time without gaps from 0.
function moving.standing(take)
  local after = "(" .. whole(at - take.period)
  local first = call("ZRANGEBYSCORE", take.name, after, "+inf", "LIMIT", 0, 1)[1]
  if not first then return 0, at + take.period end
  return call("ZCOUNT", take.name, after, "+inf"), tonumber(string.match(first, "%d+")) + take.period
end

function moving.hit(take)
  local now = whole(at)
  call("ZREMRANGEBYSCORE", take.name, "-inf", whole(at - take.period))
  call("ZADD", take.name, now, now .. string.format(":%09d", call("ZCOUNT", take.name, now, now)))
  call("PEXPIRE", take.name, take.ttl)
end

function moving.give_back(take)
  local last = call("ZREVRANGEBYSCORE", take.name, whole(take.at), whole(take.at), "LIMIT", 0, 1)[1]
  if last then call("ZREM", take.name, last) end
end

-- Bucket: a string «newest slice units slice units …». `own` is the length of a slice, `covered` how many count.
local bucket = {}

function bucket.kept(take, now)
  local cells, newest = {}, -1
  for cell in string.gmatch(call("GET", take.name) or "", "%S+") do cells[#cells + 1] = tonumber(cell) end
  newest = math.max(cells[1] or -1, math.floor(now / take.own))
  local slices = {}
  for place = 2, #cells, 2 do
    if cells[place] > newest - take.covered then slices[cells[place]] = cells[place + 1] end
  end
  return newest, slices
end

function bucket.write(take, newest, slices)
  local cells = { whole(newest) }
  for slice, units in pairs(slices) do
    cells[#cells + 1] = whole(slice)
    cells[#cells + 1] = whole(units)
  end
  call("SET", take.name, table.concat(cells, " "), "PX", take.ttl)
end

function bucket.standing(take)
  local newest, slices = bucket.kept(take, at)
  local held, oldest = 0, nil
  for slice, units in pairs(slices) do
    held = held + units
    oldest = math.min(oldest or slice, slice)
  end
  return held, ((oldest or newest) + take.covered) * take.own
end

function bucket.add(take, then_at, now, units)
  local newest, slices = bucket.kept(take, math.max(then_at, now))
  local slice = math.floor(then_at / take.own)
  local gone = slice <= newest - take.covered
  if gone then slice = newest end
  if units > 0 or not gone then
    local left = bounded((slices[slice] or 0) + units)
    slices[slice] = left > 0 and left or nil
  end
  bucket.write(take, newest, slices)
end

function bucket.hit(take) bucket.add(take, at, at, take.cost) end

function bucket.give_back(take)
  if take.cost < 0 or call("EXISTS", take.name) == 1 then bucket.add(take, take.at, over, -take.cost) end
end

-- Lease: a sorted set of owners, scored by when their slot ends.
local lease = {}

function lease.standing(take)
  call("ZREMRANGEBYSCORE", take.name, "-inf", whole(at))
  return call("ZCARD", take.name), at + SECOND
end

function lease.hit(take)
  call("ZADD", take.name, whole(at + take.period), take.owner)
  call("PEXPIRE", take.name, take.ttl)
end

function lease.give_back(take)
  if take.cost > 0 then return call("ZREM", take.name, take.owner) end
  call("ZADD", take.name, whole(over + take.period), take.owner)
  call("PEXPIRE", take.name, take.ttl)
end

local PACES = { fixed = fixed, moving = moving, bucket = bucket, lease = lease }

local function next_take()
  local take = { name = key(), pace = PACES[word()], amount = number(), need = number(), cost = number(), period = number() }
  take.ttl, take.own, take.covered = word(), number(), number()
  if take.pace == lease then take.owner = text() end
  return take
end

local answer = {}

local function take_together(takes)
  local fits, all = {}, true
  for place, take in ipairs(takes) do
    fits[place] = take.pace.standing(take) + take.need <= take.amount
    all = all and fits[place]
  end
  for _, take in ipairs(all and takes or {}) do take.pace.hit(take) end
  for place, take in ipairs(takes) do
    local count, resets = take.pace.standing(take)
    answer[#answer + 1] = fits[place] and "1" or "0"
    answer[#answer + 1] = whole(math.max(0, take.amount - count))
    answer[#answer + 1] = whole(resets)
  end
end

for _ = 1, number() do
  local take = next_take()
  take.at = number()
  take.pace.give_back(take)
end
for _ = 1, number() do
  local sight = SIGHTS[word()]
  local first, second = sight(number(), word(), number(), word())
  answer[#answer + 1] = whole(first)
  answer[#answer + 1] = whole(second)
end
for _ = 1, 2 do
  local takes = {}
  for place = 1, number() do takes[place] = next_take() end
  take_together(takes)
end

-- Recalls: a hash of places, each with a tag and the slice it was kept in (recalled.py); a newer mark takes an older one's place.
local TURN = 4096
for _ = 1, number() do
  local name, keeps, slice, ttl, found = key(), number() == 1, number(), word(), 0
  local places, tags = {}, {}
  for place = 1, number() do places[place], tags[place] = word(), number() end
  for first = 1, #places, 1000 do
    local last = math.min(first + 999, #places)
    if keeps then
      local cells = {}
      for place = first, last do
        cells[#cells + 1] = places[place]
        cells[#cells + 1] = whole(tags[place] * TURN + slice)
      end
      call("HSET", name, unpack(cells))
    else
      for place, cell in ipairs(call("HMGET", name, unpack(places, first, last))) do
        local kept = tonumber(cell or "0")
        if math.floor(kept / TURN) == tags[first + place - 1] and (slice - kept % TURN) % TURN < SLICES then found = found + 1 end
      end
    end
  end
  if keeps then call("PEXPIRE", name, ttl) end
  answer[#answer + 1] = whole(found)
end
return table.concat(answer, " ")
