"""Clusters: accounts tied by evidence of several kinds, found off the hot path over audit records.

`records` reads, `table` remembers in bounded memory, `population` says who holds what and how rare that is, `pairs` finds links
between two (failover, synchrony), `links` sums them, `grouping` makes groups, `chance` holds every group against matched random
accounts, `found` puts the results together, `report` and `published` write them. `families` is the table of all kinds of link.

Measured on a million records of 34,000 orgs (`python -m tests.clusters.measure`, one core of a shared machine): 93 s of
processor, 481 MiB. A table holds at most 4,000,000 rows of 40 bytes; past that a share of the values is looked at, and told.
"""
