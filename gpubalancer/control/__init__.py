"""The operator's side: reload, the admin API."""
