"""A labelled corpus for the sensitivity detectors, made from published formats with a seed.

`numbers` and `tokens` build what must be found, `decoys` what must not, and `samples` puts both into sentences, code
and records. Nothing here imports the detectors: check digits are computed by implementations of their own. No number
belongs to anybody on purpose; all of it is random.
"""
