"""What remains of a decision: the record, the ledger of records, and OpenTelemetry spans."""
