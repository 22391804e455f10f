"""What is remembered between exchanges: windows of measures and limits, in memory or in Redis."""
