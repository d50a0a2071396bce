"""The middlewares of the request chain. Each takes plain values; none imports `server`."""
