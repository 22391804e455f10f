"""The admin listener: what operators may see and order. A listener of its own, authenticated, and off unless it is set up.

`operations` is the table of what it answers; the routes, the checks of what is asked and the OpenAPI document are all written
from it. Nothing here decides about callers: it reads what the process knows and what the ledger holds, and can do one thing,
which is to have all rules judge in shadow (`gateway.halting`).
"""
