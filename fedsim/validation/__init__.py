"""Outside validation: a frozen model, a plan that is fixed first, and the smallest update that passes.

Statistics are pure functions of arrays, NumPy and SciPy only; `frozen` alone reads runs and data.
"""
