"""The process: sockets, connections, graceful shutdown, gunicorn."""
