"""What ldreader costs, beside others under the same conditions: ``python -m tests.benchmarks --help``."""
