"""costmodel: what a neural network costs, and how long it takes."""
