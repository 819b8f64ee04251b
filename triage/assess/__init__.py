"""The assess room: pixels, gate, network, answer."""
