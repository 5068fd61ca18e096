"""Single kernel variants, for tests and benchmarks."""
