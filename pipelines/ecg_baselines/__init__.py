"""Two small networks of our own for atrial fibrillation: a second opinion, off by default."""
