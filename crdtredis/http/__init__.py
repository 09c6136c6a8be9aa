"""HTTP: the routes peers use (replication) and those for operators (health, stats, metrics,
config). app puts them together."""
