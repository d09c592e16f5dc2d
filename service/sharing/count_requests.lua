-- Counts requests, each against several limits: against all of them, or against none if one of them is used up.
--
-- KEYS: for each request, one per limit. ARGV: for each request, the number of its limits; then for each limit the number
-- of requests and the milliseconds of its window.
-- Returns for each request, in order: 1 if it is granted, else 0; then for each limit, before this request, the requests
-- in the previous window, those in the current one, and its age in milliseconds.
-- The clock is that of Redis, so that all processes count in the same windows.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, key, argument = {}, 1, 1

while key <= #KEYS do
  local limits, granted, windows = tonumber(ARGV[argument]), 1, {}
  for number = 1, limits do
    local name = KEYS[key + number - 1]
    local limit, period = tonumber(ARGV[argument + 2 * number - 1]), tonumber(ARGV[argument + 2 * number])
    local index, elapsed = math.floor(now / period), now % period
    local kept = redis.call('HMGET', name, 'index', 'previous', 'current')
    local previous, current = 0, 0
    if tonumber(kept[1]) == index then
      previous, current = tonumber(kept[2]), tonumber(kept[3])
    elseif tonumber(kept[1]) == index - 1 then
      previous = tonumber(kept[3])
    end
    if previous * (1 - elapsed / period) + current + 1 > limit then
      granted = 0
    end
    windows[number] = {name, index, previous, current, elapsed, period}
  end
  answer[#answer + 1] = granted
  for _, window in ipairs(windows) do
    local name, index, previous, current, elapsed, period = unpack(window)
    if granted == 1 then
      redis.call('HSET', name, 'index', index, 'previous', previous, 'current', current + 1)
      redis.call('PEXPIRE', name, 2 * period)
    end
    answer[#answer + 1] = previous
    answer[#answer + 1] = current
    answer[#answer + 1] = elapsed
  end
  key, argument = key + limits, argument + 1 + 2 * limits
end
return answer
