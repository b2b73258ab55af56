"""Which process is the server: by the port it listens on, by its container's name, by id.

Knows: /proc's tables of sockets, the names that container engines give their cgroups and files. Must not
know: what is asked of the server. What cannot be seen from here is None, or NoGroup where a user named it.

Found without asking a container engine: Docker keeps a container's name in its config.v2.json; every engine
names the cgroup after the container's id (docker/ID, docker-ID.scope, libpod-ID.scope,
cri-containerd-ID.scope).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from loadtest import groups
from loadtest.groups import Group, NoGroup

PROC = Path("/proc")
DOCKER = Path("/var/lib/docker")
DOCKER_SETTINGS = Path("/etc/docker/daemon.json")
LISTENING = "0A"
MAPPED = bytes(10) + b"\xff\xff"  # what stands before an IPv4 address in one of IPv6
FORWARDERS = ("docker-proxy", "rootlesskit", "slirp4netns", "pasta")  # listen for a container, hold no cache
SHORTEST_ID = 12  # hex digits; what `docker ps` shows


class Target(NamedTuple):
    """What is known of the server beside its address."""

    pid: int | None = None
    group: Group | None = None
    named: bool = False  # by the user: the group, not only the process

    def others(self) -> int:
        """How many processes the group and those below it hold beside the server."""
        return len(self.group.all_processes() - {self.pid}) if self.group is not None else 0


def find(
    address: str, pid: int | None = None, cgroup: str | None = None, container: str | None = None
) -> Target:
    """The server behind `address`, or what a user named instead. NoGroup where that is not there."""
    if container is not None:
        group = of_container(container)
        return Target(pid or largest(group), group, named=True)
    if pid is not None and not (PROC / str(pid)).exists():
        raise NoGroup(f"--pid {pid}: no such process on this machine")
    if pid is None:
        pid = listener(address)
    if cgroup is not None:
        group = groups.at(Path(cgroup))
        return Target(pid or largest(group), group, named=True)
    return Target(pid, groups.of_process(pid) if pid is not None else None)


def largest(group: Group, proc: Path = PROC) -> int | None:
    """The largest process of a group, which is its server, unless it is a child of this one: the hog."""
    found = []
    for pid in group.processes():
        with contextlib.suppress(OSError, KeyError, IndexError, ValueError):
            lines = (proc / str(pid) / "status").read_text().splitlines()
            told = {
                name: words.split()[0] for name, _, words in (line.partition(":") for line in lines) if words
            }
            if int(told["PPid"]) != os.getpid():
                found.append((int(told["VmRSS"]), pid))
    return max(found)[1] if found else None


# -- by port --


def listener(address: str) -> int | None:
    """The process that listens at `address`, where that is on this machine and may be looked up."""
    if "/" in address:
        inodes = _unix_inodes(address)
    else:
        host, _, port = address.rpartition(":")
        if not port.isdigit() or not is_local(host.strip("[]")):
            return None
        inodes = _tcp_inodes(host.strip("[]"), int(port))
    pid = next(_holders(inodes), None) if inodes else None
    return None if pid is None or name_of(pid) in FORWARDERS else pid


def is_local(host: str) -> bool:
    """Whether `host` is an address of this machine: one can listen there."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, where in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.bind(where)
                return True
    return False


def name_of(pid: int) -> str:
    """The name of a process; "" where there is none."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "comm").read_text().strip()
    return ""


def _tcp_inodes(host: str, port: int) -> set[str]:
    """Sockets that listen at the host's own address, else those that listen at all of this machine's."""
    there, everywhere = set(), set()
    wanted = _as_in_proc(host)
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                place, _, number = fields[1].rpartition(":")
                if fields[3] == LISTENING and int(number, 16) == port:
                    if place in wanted:
                        there.add(fields[9])
                    elif not place.strip("0"):
                        everywhere.add(fields[9])
    return there or everywhere


def _as_in_proc(host: str) -> set[str]:
    """The addresses of a host as /proc/net/tcp and tcp6 write them: words of 32 bits, in hexadecimal."""
    found = set()
    with contextlib.suppress(OSError):
        for family, _, _, _, where in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            packed = socket.inet_pton(family, str(where[0]).partition("%")[0])
            found.add(_words(packed))
            if family == socket.AF_INET:
                found.add(_words(MAPPED + packed))
    return found


def _words(packed: bytes) -> str:
    return "".join(
        f"{int.from_bytes(packed[at : at + 4], sys.byteorder):08X}" for at in range(0, len(packed), 4)
    )


def _unix_inodes(path: str) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for line in (PROC / "net/unix").read_text().splitlines()[1:]:
            fields = line.split()
            if len(fields) == 8 and fields[7] == str(Path(path).absolute()):
                found.add(fields[6])
    return found


def _holders(inodes: Iterable[str]) -> Iterator[int]:
    """Yield the processes that have one of these sockets open, as far as this user may see."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in sorted(
        (each for each in PROC.iterdir() if each.name.isdigit()), key=lambda each: int(each.name)
    ):
        with contextlib.suppress(OSError):
            for link in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(link.readlink()) in wanted:
                        yield int(folder.name)
                        break


# -- by container --


def of_container(
    name: str, docker: Iterable[Path] | None = None, tops: Iterable[Path] | None = None
) -> Group:
    """The memory cgroup of a container, by its name (Docker) or its id (any engine). NoGroup.

    docker: Docker's data folders; tops: where hierarchies are mounted. Both are looked up where left out.
    """
    wanted = _id_of(name, docker_folders() if docker is None else docker)
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_ID},64}}", wanted):
        raise NoGroup(
            f"--container {name}: Docker has no container of that name here, or only root may look:"
            " say its id, or --pid, or --cgroup"
        )
    shape = re.compile(rf"(?:[a-z-]+-)?{wanted}[0-9a-f]*(?:\.scope)?")
    hierarchies = [(mount.path, mount.version) for mount in groups.mounts()]
    for top, version in hierarchies if tops is None else [(top, 1) for top in tops]:
        for folder in top.rglob("*"):
            if wanted in folder.name and folder.is_dir() and shape.fullmatch(folder.name):
                return Group(folder, version, top)
    raise NoGroup(f"--container {name}: no memory cgroup of it is to be seen: is it running on this machine?")


def docker_folders(settings: Path = DOCKER_SETTINGS, proc: Path = PROC) -> list[Path]:
    """Where Docker may keep its data: the usual place, what its settings say, what a running one was told."""
    found = [DOCKER]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found.append(Path(json.loads(settings.read_text())["data-root"]))
    for command in proc.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            program, *words = command.read_text(errors="replace").split("\0")
            told = re.search(r"(?:^|\0)--data-root[=\0]([^\0]+)", "\0".join(words))
            if Path(program).name == "dockerd" and told:
                found.append(Path(told[1]))
    return found


def _id_of(name: str, docker: Iterable[Path]) -> str:
    for path in (each for folder in docker for each in folder.glob("containers/*/config.v2.json")):
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(path.read_text())
            if told.get("Name", "").lstrip("/") == name.lstrip("/"):
                return str(told.get("ID", path.parent.name))
    return name
