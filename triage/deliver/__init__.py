"""How result objects reach their destinations, and what happens when one of them is away."""
