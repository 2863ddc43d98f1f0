"""The checks by number, and how they are run: eight quick ones inside every attack, the others by an audit."""
