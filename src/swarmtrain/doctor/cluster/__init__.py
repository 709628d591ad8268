"""`doctor` of a Swarm: what its managers say, and what short-lived containers on its nodes find out."""
