"""What a result has to say about where and when it was measured."""

import datetime
import os
import pathlib
import platform
import subprocess

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def cores():
    return len(os.sched_getaffinity(0))


def describe():
    info = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        info.setdefault(key.strip(), value.strip())
    present = set(info.get("flags", "").split())
    memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": info.get("model name", platform.processor()),
        "family": info.get("cpu family", ""),
        "model": info.get("model", ""),
        "flags": [flag for flag in FLAGS if flag in present],
        "cores": cores(),
        "memory_gb": round(int(memory) / 1e6, 1),
        "kernel": platform.release(),
        "system": system(),
    }


def system():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def revision():
    """The commit that is measured; "-dirty" where files differ from it."""
    root = pathlib.Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def busy_seconds():
    """CPU time that all processes of the machine have used, and what the hypervisor took."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, kernel, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + kernel + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid):
    """CPU time of a process and its children, all threads."""
    total = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # ended meanwhile
            continue
        fields = text.rsplit(")", 1)[1].split()
        if pid in (int(text.split(" ", 1)[0]), int(fields[1])):
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
