"""The operator's YAML file as checked types: schema, load, validate, diff."""
