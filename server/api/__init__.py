"""The HTTP API: the session endpoint, the operational routes and their documents."""
