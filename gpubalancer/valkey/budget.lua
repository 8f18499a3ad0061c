-- Budgets of several balancers, on one server. Every call is one step: nothing else happens on the server meanwhile.
--
-- All keys carry one tag, so that they stand in one slot of a Cluster whatever a reload does to a tenant's parents:
--   {tag}:b:ID        one budget: used, reserved, stamp, first, second (gpubalancer/domain/budget.py: State)
--   {tag}:h:SESSION   what one worker's requests hold: number -> the claims, and the need in each
--   {tag}:t:SESSION:N a request that was settled without a reservation known here, so that it is settled once
--   {tag}:s           when each session was last heard of
--
-- A row of the claims: id, kind (B, W, G), unit, weight of cached tokens, limit, capacity, period, shadow, stops, keep,
-- windows. Times are microseconds of this server's clock. The arithmetic is that of domain/budget.py on numbers of 53
-- bits; `long_divide` is exact where a product would need more. A window's stamp is its number, which its calendar
-- gives, so that this server need know no time zones.
--
-- ARGV: what to do, the tag, and its own arguments.

local MOST = 9007199254740991
local TOMB_MS, KEEP_HELD_MS = 86400000, 604800000
local UNITS = {'tokens', 'prompt_tokens', 'completion_tokens', 'requests', 'usd', 'joules', 'concurrent'}
local ID, KIND, UNIT, WEIGHT, LIMIT, CAPACITY, PERIOD, SHADOW, STOPS, KEEP, WINDOWS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local USED, RESERVED, STAMP, FIRST, SECOND = 1, 2, 3, 4, 5

local tag = ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function text(number)
  return string.format('%.0f', number)
end

local function divide(a, b)
  local quotient = math.floor(a / b)
  local rest = a - quotient * b
  if rest < 0 then
    return quotient - 1, rest + b
  elseif rest >= b then
    return quotient + 1, rest - b
  end
  return quotient, rest
end

-- (a * b + carry) divided by c, a digit of a at a time; c below 2 ^ 48.
local function long_divide(a, b, carry, c)
  local whole, b_rest = divide(b, c)
  local digits = {}
  local left = a
  while left > 0 do
    local digit
    left, digit = divide(left, 32)
    digits[#digits + 1] = digit
  end
  local quotient, rest = 0, 0
  for place = #digits, 1, -1 do
    local more
    more, rest = divide(rest * 32 + digits[place] * b_rest, c)
    quotient = quotient * 32 + more
  end
  local more
  more, rest = divide(rest + carry, c)
  return a * whole + quotient + more, rest
end

local function window_of(row)
  for _, window in ipairs(row[WINDOWS]) do
    if window[2] <= now and now < window[3] then
      return window[1]
    end
  end
  return nil
end

local function bucket_at(row, state)
  local used, stamp = state[USED], state[STAMP]
  if used <= 0 then
    return {0, state[RESERVED], math.max(now, stamp), 0, 0}
  end
  local passed = now - stamp
  if passed <= 0 then
    return state
  end
  if passed / row[PERIOD] * row[LIMIT] > used * 1.001 + 2 then
    return {0, state[RESERVED], now, 0, 0}
  end
  local gained, carry = long_divide(passed, row[LIMIT], state[FIRST], row[PERIOD])
  if gained >= used then
    return {0, state[RESERVED], now, 0, 0}
  end
  return {used - gained, state[RESERVED], now, carry, 0}
end

local function window_at(row, state)
  local number = window_of(row)
  if number == nil or number <= state[STAMP] then
    return state
  end
  local debt, reserved = state[FIRST], state[RESERVED]
  debt = math.min(debt + state[SECOND], math.max(0, debt + state[USED] - reserved - row[LIMIT]))
  debt = math.max(0, debt - row[LIMIT] * (number - state[STAMP] - 1))
  return {reserved, reserved, number, debt, 0}
end

local function load(row)
  local state = {}
  local kept = redis.call('GET', tag .. ':b:' .. row[ID])
  if kept then
    for number in string.gmatch(kept, '%S+') do
      state[#state + 1] = tonumber(number)
    end
  else
    state = {0, 0, 0, 0, 0}
  end
  if row[KIND] == 'B' then
    return bucket_at(row, state)
  elseif row[KIND] == 'W' then
    return window_at(row, state)
  end
  return {state[RESERVED], state[RESERVED], math.max(now, state[STAMP]), 0, 0}
end

local function say(state)
  return text(state[1]) .. ' ' .. text(state[2]) .. ' ' .. text(state[3]) .. ' ' .. text(state[4]) .. ' ' .. text(state[5])
end

local function save(row, state)
  local keep_ms = row[KEEP]
  if row[KIND] == 'B' then
    keep_ms = keep_ms + math.ceil(state[USED] / row[LIMIT] * row[PERIOD] / 1000)
  end
  if state[RESERVED] > 0 then
    keep_ms = math.max(keep_ms, KEEP_HELD_MS)
  end
  redis.call('SET', tag .. ':b:' .. row[ID], say(state), 'PX', text(math.min(keep_ms, 1e14)))
end

local function remaining(row, state)
  if row[KIND] == 'W' then
    return row[CAPACITY] - state[FIRST] - state[USED]
  end
  return row[CAPACITY] - state[USED]
end

-- Spending: prompt, cached and completion tokens, requests, nano-usd, millijoules.
local function charge(row, spending)
  local unit = UNITS[row[UNIT]]
  if unit == 'tokens' or unit == 'prompt_tokens' then
    local spared = divide(spending[2] * (1000000 - row[WEIGHT]), 1000000)
    local tokens = math.max(0, spending[1] - spared)
    return unit == 'tokens' and tokens + spending[3] or tokens
  elseif unit == 'completion_tokens' then
    return spending[3]
  elseif unit == 'requests' then
    return spending[4]
  elseif unit == 'usd' then
    return spending[5]
  elseif unit == 'joules' then
    return spending[6]
  end
  return 0
end

local function settle(row, state, held, actual)
  local used = math.min(math.max(0, state[USED] + actual - held), MOST)
  local owed = state[SECOND]
  if row[KIND] == 'W' and row[SHADOW] == 0 then
    owed = owed + math.max(0, math.min(actual - held, state[FIRST] + used - row[LIMIT]))
  end
  return {used, math.max(0, state[RESERVED] - held), state[STAMP], state[FIRST], owed}
end

local function held_key(session)
  return tag .. ':h:' .. session
end

local function record(claims, needs)
  return table.concat(needs, ' ') .. '|' .. claims
end

local function read_record(kept)
  local bar = string.find(kept, '|', 1, true)
  local needs = {}
  for number in string.gmatch(string.sub(kept, 1, bar - 1), '%S+') do
    needs[#needs + 1] = tonumber(number)
  end
  local claims = string.sub(kept, bar + 1)
  return claims, cjson.decode(claims), needs
end

-- The answer to all that changes or reads budgets: a number, this server's time, one more number, and the states.
local function answer(code, more, states)
  local parts = {text(code), text(now), text(more)}
  for place, state in ipairs(states) do
    parts[place + 3] = say(state)
  end
  return table.concat(parts, ' ')
end

local function beat(session, lease_ms)
  if session ~= '' then
    redis.call('ZADD', tag .. ':s', text(now), session)
    redis.call('PERSIST', held_key(session))
  end
  local gone = redis.call('ZRANGEBYSCORE', tag .. ':s', '-inf', text(now - lease_ms * 1000), 'LIMIT', '0', '4')
  local count = 0
  for _, dead in ipairs(gone) do
    local kept = redis.call('HGETALL', held_key(dead))
    for place = 1, #kept, 2 do
      local claims, rows, needs = read_record(kept[place + 1])
      for at, row in ipairs(rows) do
        if needs[at] > 0 then
          save(row, settle(row, load(row), needs[at], 0))
        end
        needs[at] = 0
      end
      redis.call('HSET', held_key(dead), kept[place], record(claims, needs))
      count = count + 1
    end
    redis.call('PEXPIRE', held_key(dead), text(KEEP_HELD_MS))
    redis.call('ZREM', tag .. ':s', dead)
  end
  return text(now) .. ' ' .. text(redis.call('ZCARD', tag .. ':s')) .. ' ' .. text(count)
end

-- Reserve in all or in none. Code 1: reserved, the states after it, and which rows only count and would have refused,
-- as bits. Code 0: the states without it. Code 2: it was given up before it came.
local function reserve(session, number, claims, spending)
  if redis.call('EXISTS', tag .. ':t:' .. session .. ':' .. number) == 1 then
    return answer(2, 0, {})
  end
  local rows, before, after, needs, bits, fits = cjson.decode(claims), {}, {}, {}, 0, true
  for place, row in ipairs(rows) do
    local need = row[KIND] == 'G' and 1 or charge(row, spending)
    local state = load(row)
    if need > remaining(row, state) then
      if row[SHADOW] == 1 then
        bits = bits + 2 ^ (place - 1)
      else
        fits = false
      end
    end
    before[place] = state
    after[place] = {state[USED] + need, state[RESERVED] + need, state[STAMP], state[FIRST], state[SECOND]}
    needs[place] = text(need)
  end
  if not fits then
    return answer(0, 0, before)
  end
  for place, row in ipairs(rows) do
    save(row, after[place])
  end
  redis.call('HSET', held_key(session), number, record(claims, needs))
  return answer(1, bits, after)
end

-- Reserve more in the rows that end an answer; code 1 if it fitted.
local function extend(session, number, spending)
  local kept = redis.call('HGET', held_key(session), number)
  if not kept then
    return answer(0, 0, {})
  end
  local claims, rows, needs = read_record(kept)
  local states, shown = {}, {}
  for place, row in ipairs(rows) do
    local need = row[STOPS] == 1 and charge(row, spending) or 0
    local state = load(row)
    if need > math.max(0, remaining(row, state)) and row[SHADOW] == 0 then
      return answer(0, 0, {})
    end
    states[place] = {state[USED] + need, state[RESERVED] + need, state[STAMP], state[FIRST], state[SECOND]}
    shown[place] = text(needs[place] + need)
  end
  for place, row in ipairs(rows) do
    save(row, states[place])
  end
  redis.call('HSET', held_key(session), number, record(claims, shown))
  return answer(1, 0, {})
end

-- Put what was taken in the place of what is held, once. With `claims` it is charged also if nothing is known of it:
-- its reservation may never have come, or come later, when it is refused.
local function settle_once(session, number, spending, claims)
  if claims ~= '' then
    local tomb = tag .. ':t:' .. session .. ':' .. number
    if not redis.call('SET', tomb, '', 'NX', 'PX', text(TOMB_MS)) then
      return answer(0, 0, {})
    end
  end
  local kept = redis.call('HGET', held_key(session), number)
  local rows, needs
  if kept then
    claims, rows, needs = read_record(kept)
    redis.call('HDEL', held_key(session), number)
  elseif claims == '' then
    return answer(0, 0, {})
  else
    rows, needs = cjson.decode(claims), {}
  end
  local states = {}
  for place, row in ipairs(rows) do
    states[place] = settle(row, load(row), needs[place] or 0, charge(row, spending))
    save(row, states[place])
  end
  return answer(1, 0, states)
end

local function read(claims)
  local states = {}
  for place, row in ipairs(cjson.decode(claims)) do
    states[place] = load(row)
  end
  return answer(1, 0, states)
end

local function spending_of(list)
  return cjson.decode(list)
end

local what = ARGV[1]
if what == 'reserve' then
  return reserve(ARGV[3], ARGV[4], ARGV[5], spending_of(ARGV[6]))
elseif what == 'settle' then
  return settle_once(ARGV[3], ARGV[4], spending_of(ARGV[5]), ARGV[6])
elseif what == 'extend' then
  return extend(ARGV[3], ARGV[4], spending_of(ARGV[5]))
elseif what == 'read' then
  return read(ARGV[3])
elseif what == 'beat' then
  return beat(ARGV[3], tonumber(ARGV[4]))
end
return redis.error_reply('ERR no such step')
