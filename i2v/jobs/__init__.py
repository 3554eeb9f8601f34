"""From what a person asked for to a job that runs in its own process. No torch in here."""
