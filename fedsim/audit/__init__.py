"""Does what protects a run hold? Attacks on it, and what they show with what confidence.

Statistics are NumPy and SciPy; what runs inside or beside the compiled program is in files of its own, and is
not imported here.
"""
