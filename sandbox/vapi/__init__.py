"""A stand-in for Vapi: `GET /assistant/{id}` and `POST /call/web`, with its checks and errors."""
