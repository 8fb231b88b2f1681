"""The rules of a night: pure functions and frozen records, without any SDK."""
