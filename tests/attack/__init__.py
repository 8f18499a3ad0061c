"""Hostile bytes against the balancer as a black box: what leaves its back must be strict HTTP/1.1, whatever comes in.

`grammar` judges bytes at the backend and `answers` those at the client, both written from RFC 9112 without the parser
that the balancer uses. `recorder` and `hostile` are the backends, `client` sends raw bytes, `arena` joins them around a
process, and the tables `cases_*` and `responses` say what is sent and what must come of it.
"""
