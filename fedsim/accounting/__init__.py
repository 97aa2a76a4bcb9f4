"""Privacy accounts: events, accountants, calibration, and the ledger of what a run releases. No JAX."""
