"""Pictures in, videos out: reading a photograph, writing and describing an mp4."""
