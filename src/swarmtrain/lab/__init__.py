"""The lab: a real Swarm of several Docker Engines on one machine, each in a container ("kind for Swarm").

`lab.Lab` is the face of it; used by ``swarmtrain lab`` and by the tests that need a Swarm. What runs in a node is a
real Docker Engine in a real Swarm on real overlay networks; only the machines are pretend, so that they can be
paused, cut from power and unplugged.
"""
