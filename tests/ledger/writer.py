"""A worker that does nothing but append, for tests that kill it: each entry's id is said once it is in the journal."""

import os
import sys
from itertools import count
from pathlib import Path

from gpubalancer.ledger.journal import Journal
from gpubalancer.ledger.records import encode
from tests.ledger.entries import entry

if __name__ == "__main__":
    journal = Journal(Path(sys.argv[1]), sys.argv[2], segment_bytes=int(sys.argv[3]))
    for number in count():
        name = f"{sys.argv[2]}x{number}"
        journal.append(encode(entry(number, decision_id=name)))
        os.write(1, f"{name}\n".encode())
