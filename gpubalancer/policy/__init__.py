"""The policy file as types.

`load.load` reads the YAML file into a frozen `schema.Policy`, or raises one `faults.PolicyError` with every fault and
its line. `fields` says how one value is read (durations, sizes, secrets), the section modules (`listen`, `tiers`,
`models`, `backends`, `tenants`, `routing`) say which settings exist, and `checks` what must agree between sections.
`diff` compares two policies for a reload; `document` renders the settings for people and editors.

A new setting is a field in its section's module: the reference, the JSON Schema and the error messages follow from it.
"""
