"""A hardened server for any aiohttp application without WebSockets and multipart forms.

It knows nothing of what it serves.

There is one door for a process of its own, and one for a worker of gunicorn:

    await run.serve(app, host, port, limits, grace=10, delay=0, on_start=print)
    return gunicorn.worker_runner(app, limits, grace=10, delay=0)  # in an application factory

The application carries a `server.Interface` under the key `server.INTERFACE`: how to make an error
response, where requests get the time of their head, how to end those in flight; and, from the
server, whether the process shuts down, and the number of connections. Nothing here imports anything
else of this repository; import-linter holds that.

What it adds to aiohttp's own server:

- A head has at most 32 KiB and 100 fields, and 30 seconds to arrive. aiohttp limits fields one by
  one, and waits for ever.
- A connection costs at most 100 KiB, whatever it sends or does not read. Data is read in pieces of
  4 KiB, requests are parsed one after the other, and the buffers of the kernel are small.
- What is not HTTP gets the application's error response, and then the end of the connection, which
  first discards what the client still sends: a reset would lose the response.
- A client that reads nothing of its response for 10 seconds is disconnected. One that has left
  cancels the work for it.
- The number of connections is limited, and the limit of open files raised to fit it. Beyond it a
  connection without a request makes room.
- A new client does not wait for those that load without pause. All that wait are accepted together,
  and 32 requests begin in one turn of the event loop: first requests and others by halves, others
  in the order of their arrival (`transport.Turns`).
- SIGTERM loses no request. Connections that the kernel has queued are accepted, each open one may
  send one more request, whose response closes it, and requests in flight get their responses, all
  in `grace` seconds (`run.GraceShares`). With `delay`, new connections are served for that long
  before. gunicorn's workers end in the same way, and a reload delays nothing.

One request passes these modules, in this order:

- `server` accepts the client and creates its connection;
- `transport` reads, and limits the buffers of the socket;
- `connection` hands one request at a time to the application, and sends the response;
- `inbound` parses what was read, with aiohttp's parser;
- `connection_limits` has every limit as a number with its reason;
- `run` starts the server and ends it; `gunicorn` does so in a worker, and has the hooks.
"""
