-- wrk script: PUT one body to many targets.  Targets come from the file named by TARGETS, one a line:
--   path [bearer-token]
-- Each thread takes every THREADS-th line, so no target is used twice.
local body, targets, position, step = nil, {}, 0, 1
local thread_count = 0

function setup(thread)
  thread:set("number", thread_count)
  thread_count = thread_count + 1
end

function init(args)
  local size = tonumber(os.getenv("BODY_SIZE"))
  body = string.rep("w", size)
  for line in io.lines(os.getenv("TARGETS")) do
    local path, token = line:match("^(%S+)%s*(%S*)$")
    targets[#targets + 1] = {path, token}
  end
  step = tonumber(os.getenv("THREADS") or "1")
  position = number + 1 - step
end

function request()
  position = position + step
  local target = targets[position]
  if target == nil then
    wrk.thread:stop()
    target = targets[#targets]
  end
  local headers = {["Content-Type"] = "application/octet-stream"}
  if target[2] ~= "" then
    headers["Authorization"] = "Bearer " .. target[2]
    headers["X-Warehouse-Key"] = "bench" .. target[1]
  end
  return wrk.format("PUT", target[1], headers, body)
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    "RESULT %d %d %d %d %d",
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
