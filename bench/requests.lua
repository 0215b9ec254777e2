-- wrk script: random requests of the file named by REQUESTS, one a line: method, path and headers, tab-separated.
local requests = {}

function init(args)
  for line in io.lines(os.getenv("REQUESTS")) do
    local words = {}
    for word in line:gmatch("[^\t]+") do words[#words + 1] = word end
    local headers = {}
    for index = 3, #words do
      local name, value = words[index]:match("^([^:]+): (.*)$")
      headers[name] = value
    end
    requests[#requests + 1] = wrk.format(words[1], words[2], headers)
  end
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format("RESULT %d %d %d", summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout))
end
