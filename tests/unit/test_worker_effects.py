"""Whatever a program on trial does that others could see is heard before it is done, so that it is done once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from swarmtrain.worker.warm.trial import _ON_FILES, _SILENT

# Each is the first thing that a program does. Forks try them, and execute a shell where they would start cold.
EFFECTS = """
os.mkfifo("new")
os.mknod("new")
os.symlink("there", "new")
os.link("there", "new")
os.mkdir("new")
os.makedirs("new/below")
os.rename("there", "new")
os.replace("there", "new")
os.remove("there")
os.unlink("there")
os.rmdir("empty")
os.truncate("there", 0)
os.utime("there", (1, 1))
os.utime(os.open("there", os.O_RDONLY), (1, 1))
os.chmod("there", 0o700)
os.fchmod(os.open("there", os.O_RDONLY), 0o700)
os.chown("there", os.getuid(), os.getgid())
os.setxattr("there", "user.new", b"")
os.open("new", os.O_CREAT)
os.posix_spawn("/bin/true", ["true"], {})
os.system("true")
os.fork()
os.kill(os.getppid(), 0)
os.killpg(os.getpgrp(), 0)
os.setsid()
os.setpgid(0, 0)
os.setgid(os.getgid())
os.setuid(os.getuid())
os.close(1)
os.closerange(2, 9)
os.dup2(0, 2)
os.dup2(0, fd2=2)
os.write(1, b"seen")
os.writev(2, [b"seen"])
os.sendfile(1, os.open("there", os.O_RDONLY), 0, 4)
open(1, "w", closefd=False).write("seen")
os.ftruncate(1, 0)
posix.mkfifo("new")
pathlib.Path("new").touch()
pathlib.Path("there").rename("new")
shutil.copy("there", "new")
tempfile.mkdtemp(dir=".")
print("seen", flush=True)
print("seen", file=sys.stderr)
fcntl.flock(os.open("there", os.O_RDONLY), fcntl.LOCK_EX)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.pthread_kill(threading.get_ident(), 0)
socket.socket().bind(("127.0.0.1", 0))
socket.create_connection(("127.0.0.1", 1))
subprocess.run(["true"])
syslog.syslog("seen")
"""

NONE = """
open("there").read()
os.close(os.open("there", os.O_RDONLY))
os.listdir("."), os.stat("there"), os.access("there", os.R_OK), os.scandir(".")
os.dup2(os.open("there", os.O_RDONLY), 9)
os.mkfifo in os.supports_dir_fd or 1 / 0
os.environ.update(NEW="1"), os.chdir("empty"), os.umask(0)
os.pipe(), os.memfd_create("new"), socket.socketpair(), socket.socket()
threading.Lock(), random.random(), time.time(), json.loads("{}"), logging.getLogger()
pathlib.Path("there").read_text(), pathlib.Path(".").resolve(), shutil.which("true")
open(os.devnull, "w").write("nothing")
"""

TRY = """
import fcntl, json, logging, os, pathlib, posix, random, resource, shutil, signal, socket, subprocess, sys, syslog
import tempfile, threading, time
from swarmtrain.worker.warm.recorder import ImportRecord as Record
from swarmtrain.worker.warm.trial import Trial

first = sys.argv[1]
trial = Trial(Record(), dict(os.environ), ["/bin/sh", "-c", "exit 42"], None)
names = dict(globals())
for line in first.strip().splitlines():
    if (child := os.fork()) == 0:
        for name in ("dup2", "write"):
            names["_" + name] = getattr(os, name)
        trial.begin()
        try:
            exec(line, names)
        except BaseException as error:
            os._exit(7)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), line, flush=True)
"""

# Every function of `os` that the kernel or the C library fulfils and that leaves nothing that could be seen, or acts on
# open files alone, or ends the process.
HARMLESS = """
abort access chdir confstr cpu_count ctermid device_encoding dup eventfd eventfd_read eventfd_write fchdir
fdatasync fpathconf fspath fstat fstatvfs fsync get_blocking get_inheritable get_terminal_size getcwd getcwdb
getegid geteuid getgid getgrouplist getgroups getloadavg getlogin getpgid getpgrp getpid getppid getpriority
getrandom getresgid getresuid getsid getuid getxattr grantpt isatty listdir listdrives listxattr lseek lstat
major makedev memfd_create minor nice openpty pathconf pidfd_open pipe pipe2 posix_fadvise posix_openpt pread
preadv process_cpu_count ptsname putenv read readlink readv register_at_fork scandir sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval
sched_setaffinity sched_yield set_blocking set_inheritable stat statvfs strerror sync sysconf tcgetpgrp times
timerfd_create timerfd_gettime timerfd_gettime_ns timerfd_settime timerfd_settime_ns ttyname umask uname
unlockpt unsetenv urandom wait wait3 wait4 waitid waitpid waitstatus_to_exitcode
"""
HEARD = """
chmod chown execv execve fchmod fchown fork forkpty ftruncate kill killpg lchown link lockf mkdir open
posix_spawn posix_spawnp remove removexattr rename replace rmdir setxattr symlink system truncate unlink utime
"""


def tried(directory: Path, lines: str) -> list[str]:
    (directory / "empty").mkdir()
    (directory / "there").write_text("there")
    (directory / "there").chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", TRY, lines], cwd=directory, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in directory.iterdir()) == ["empty", "there"]
    assert (directory / "there").read_text() == "there" and (directory / "there").stat().st_mode & 0o77 == 0
    return done.stdout.splitlines()


def test_what_others_could_see_is_heard_before_it_is_done(tmp_path: Path) -> None:
    assert tried(tmp_path, EFFECTS) == [f"42 {line}" for line in EFFECTS.strip().splitlines()]


def test_what_nobody_could_see_leaves_a_program_on_trial(tmp_path: Path) -> None:
    assert tried(tmp_path, NONE) == [f"0 {line}" for line in NONE.strip().splitlines()]


def test_it_is_known_of_every_function_of_os_whether_it_is_heard() -> None:
    """A Python that has another one needs a decision."""
    known = {*HARMLESS.split(), *HEARD.split(), *_SILENT, *_ON_FILES}
    posix = vars(sys.modules["posix"])
    found = {name for name in posix if name[0].islower() and callable(posix[name])}
    classes = {name for name in found if isinstance(posix[name], type)}
    assert found - classes - known == set()
