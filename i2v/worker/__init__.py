"""The process that owns the card: takes jobs from the service on stdin, runs the engine, reports what happens."""
