"""The links of the request chain. Each is handed plain values; none imports `server`."""
