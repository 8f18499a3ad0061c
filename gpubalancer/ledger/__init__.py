"""What was spent, kept so that nothing is lost and nothing counted twice.

    worker:      Outcome -> Entry -> Journal.append    one line, one write, before the request counts as done
    supervisor:  segments -> Ledger.catch_up -> Store  each line once: a segment's offset moves in the transaction
                                                       that adds its lines to the roll-ups
    anybody:     Store.usage -> report                 rows and a total, from the roll-ups

The journal is the truth and the store a view of it: a store that is damaged is set aside and built again. Amounts are
whole numbers (tokens, nano-dollars, millijoules), so sums agree to the last digit in whatever order they are made.
"""
