-- wrk: sends the requests that clients send, each with the next token of a file.
local requests, next_request = {}, 0

function init(args)
  for token in io.lines(args[1]) do
    local headers = { Authorization = "Bearer " .. token, ["Content-Type"] = "application/json" }
    requests[#requests + 1] = wrk.format("POST", nil, headers, "{}")
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

function done(summary, latency, _)
  io.write(string.format("RESULT %.1f %.3f %d %d %d\n",
    summary.requests / summary.duration * 1e6, latency:percentile(99) / 1000, summary.requests,
    summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
