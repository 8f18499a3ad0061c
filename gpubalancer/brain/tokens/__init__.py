"""How many tokens a prompt has: vocabularies, chat templates, and counting that never holds the loop for long."""
