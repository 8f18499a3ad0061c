"""One request's life, and the processes that run it: workers and their supervisor."""
