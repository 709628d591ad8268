"""This node's workers: started, watched, stopped, and what they write carried on."""
