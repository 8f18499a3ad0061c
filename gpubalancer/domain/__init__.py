"""The nouns: what a request is, what a backend is, what was decided, how it ended. Imports nothing of ours."""
