"""What a person sees: progress, figures."""
