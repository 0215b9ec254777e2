-- wrk script: GET random targets of the file named by TARGETS, one a line: path [bearer-token]
local targets = {}

function init(args)
  for line in io.lines(os.getenv("TARGETS")) do
    local path, token = line:match("^(%S+)%s*(%S*)$")
    local headers = {}
    if token ~= "" then headers["Authorization"] = "Bearer " .. token end
    targets[#targets + 1] = wrk.format("GET", path, headers)
  end
end

function request()
  return targets[math.random(#targets)]
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    "RESULT %d %d %d %d %d",
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
