"""The service, its upstreams and its clients, for tests, load tests and benchmarks."""
