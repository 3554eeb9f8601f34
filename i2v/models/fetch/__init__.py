"""Getting a model's files: what is published, by which route they come, checked before they have their names."""
