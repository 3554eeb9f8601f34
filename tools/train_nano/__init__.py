"""Everything that makes the bundled model nano: its data, its training, its export and its evaluation."""
