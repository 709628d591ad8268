"""How a worker comes to life: the spawner, its warm forks and cold starts, and what runs around the user's code.

    guard.py        two processes that watch each other, so that nothing outlives the spawner
    spawner.py      the loop between the agent and the workers
    launch.py       one fork: what every worker has in common, then warm or cold
    warm/preload.py      what the warm parent imports, and when a request needs a fresh interpreter instead
    warm/recorder.py     what those imports imported and read
    warm/trial.py        a warm worker until its program imports torch: as in a fresh interpreter, or started anew
    warm/shelf.py        modules that are there already are kept out of a program's sight until it imports them
    processes.py    process trees in /proc
    start.py        the first code of a cold worker
    user.py         runs the user's script or module as Python itself would
    ending.py       ends a program that has imported torch as Python itself would
    warm/module_path.py  sys.path, as the start of the user's program would have laid it
    error_file.py   what torch's ``@record`` writes, for scripts without it
    instruments/torch_setup.py  settings that are made as torch is imported
    instruments/groups.py       process groups outlive the models that reduce over them
    instruments/watch.py        where torch tells of a plain script's steps
    instruments/steps.py        counts and times them
    instruments/stacks.py       answers an agent that asks for the worker's stacks

Standard library only; torch is imported by the warm parent and by the user's code.
"""
