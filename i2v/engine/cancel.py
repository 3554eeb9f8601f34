"""The two ways a run ends early on a person's wish."""


class GenerationCancelled(Exception):
    """Raised by the engine when `cancelled()` turned true; `step` denoising steps were finished."""

    def __init__(self, step: int) -> None:
        super().__init__(f"cancelled after step {step}")
        self.step = step


class GenerationPaused(Exception):
    """Raised by the engine when `paused()` turned true; `step` denoising steps are finished and on disk."""

    def __init__(self, step: int) -> None:
        super().__init__(f"paused after step {step}")
        self.step = step
