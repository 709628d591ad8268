"""The live screen of a run: frame.py says what stands on it, window.py has the terminal, watching.py goes round."""
