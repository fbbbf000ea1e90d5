"""Processes that a server consists of: itself, all it started, and the rest of its session."""

import os
import pathlib
import signal
import subprocess
import time


def tree(root):
    """PIDs of `root`, its descendants and the processes of the session that it leads."""
    parents, found = {}, set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if fields[0] == "Z":
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        if pid == root or int(fields[3]) == root:
            found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def start(command, log, env=None, cwd=None):
    """Starts `command` as the leader of a session of its own; its output goes to the file `log`."""
    with open(log, "wb") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )


def stop(process, patience_s=15):
    """Asks politely, then ends whatever of the tree is left."""
    everything = tree(process.pid)
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        pass
    for pid in left(process, everything, 2):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    left(process, everything, 5)


def left(process, everything, patience_s):
    """Which of the processes are there still when all have ended, or patience has."""
    deadline = time.monotonic() + patience_s
    while True:
        process.poll()  # or it stays as a zombie
        remaining = {pid for pid in everything if alive(pid)} | tree(process.pid)
        if not remaining or time.monotonic() > deadline:
            return remaining
        time.sleep(0.05)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
