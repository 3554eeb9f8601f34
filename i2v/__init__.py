"""I2V: a photograph and a sentence become a video, on the card that is there."""

__version__ = "0.1.0"
