"""Programs that run in virtual environments of their own, each with the one SDK that it drives."""
