"""What in a request's text raises its tier: detectors, the operator's patterns, and phrases of prompt injection.

One hyperscan pass over the text yields places worth a look (`scan`); there, and only there, a rule's own expression,
its checksum and its context decide (`rule`, `detectors`). Hyperscan knows no look-around and no check digits; so a rule
has two expressions: a trigger for it, and an exact one that Python tries where the trigger began.

No text of a match leaves this package: a finding is a detector, a count and the index of a message.
"""
