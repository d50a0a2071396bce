-- wrk: sends the requests that clients send, each with the next token of a file. The second
-- argument is how many are pipelined.
local requests, next_request, pipelined = {}, 0, 1

function init(args)
  for token in io.lines(args[1]) do
    local headers = { Authorization = "Bearer " .. token, ["Content-Type"] = "application/json" }
    requests[#requests + 1] = wrk.format("POST", nil, headers, "{}")
  end
  pipelined = tonumber(args[2] or "1")
end

function request()
  local sent = ""
  for _ = 1, pipelined do
    next_request = next_request % #requests + 1
    sent = sent .. requests[next_request]
  end
  return sent
end

function done(summary, latency, _)
  io.write(string.format("RESULT %.1f %.3f %d %d %d\n",
    summary.requests / summary.duration * 1e6, latency:percentile(99) / 1000, summary.requests,
    summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
