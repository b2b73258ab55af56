"""Takes MIB MiB of anonymous memory evenly within SECONDS, says "full", holds it until stdin ends.

Usage: hog.py MIB SECONDS. "full <seconds it took>" tells the rate achieved.
"""
from __future__ import annotations

import mmap
import sys
import time

size, seconds = int(float(sys.argv[1]) * (1 << 20)), float(sys.argv[2])
memory = mmap.mmap(-1, size)
start = time.monotonic()
step = 1 << 18
for done in range(0, size, step):
    for at in range(done, min(done + step, size), 4096):
        memory[at] = 1
    ahead = seconds * done / size - (time.monotonic() - start)
    if ahead > 0:
        time.sleep(ahead)
print(f"full {time.monotonic() - start:.3f}", flush=True)
sys.stdin.read()
