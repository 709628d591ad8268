"""What a run tells people who do not look: what it is, in which form it goes out, and how it is sent."""
