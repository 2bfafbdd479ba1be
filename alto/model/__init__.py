"""The nouns: records, phases, ids, errors and messages; frozen data only."""
