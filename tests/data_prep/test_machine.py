"""Free memory and processors in containers of both versions, by files as the kernel writes them."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import pytest

from data_prep.storage.machine import Cgroups, free_memory, processors, schedulable_processors

GB = 2**30
HOST = 2**63 - 4096
"""What version 1 writes for no limit."""


def cgroups(folder: Path, membership: str, files: dict[str, str]) -> Cgroups:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "membership").write_text(membership, encoding="utf-8")
    (folder / "vmstat").write_text("pgpgin 1\noom_kill 3\n", encoding="utf-8")
    (folder / "cgroup").mkdir(exist_ok=True)
    return Cgroups(folder / "cgroup", folder / "membership", folder / "vmstat")


STAT = f"anon {GB}\ninactive_file {GB // 2}\nactive_file {GB // 4}\n"
V2 = {"memory.max": f"{3 * GB}\n", "memory.current": f"{2 * GB}\n", "memory.stat": STAT, "cpu.max": "150000 100000\n"}
V1 = {"memory.limit_in_bytes": f"{3 * GB}\n", "memory.usage_in_bytes": f"{2 * GB}\n"}
V1_STAT = f"inactive_file 1\ntotal_inactive_file {GB // 2}\ntotal_active_file {GB // 4}\n"


def at(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}" if folder else name: text for name, text in files.items()}


@pytest.mark.parametrize(
    ("membership", "files", "free_gb", "quota"),
    [
        ("0::/\n", V2, 1.75, 1.5),
        ("0::/\n", V2 | {"memory.high": f"{2 * GB}\n"}, 0.75, 1.5),
        ("0::/\n", V2 | {"memory.max": "max\n", "cpu.max": "max 100000\n"}, math.inf, math.inf),
        ("0::/pod/box\n", at("pod", V2) | at("pod/box", {"memory.max": "max\n", "cpu.max": "max 100000"}), 1.75, 1.5),
        ("0::/pod/box\n", at("pod/box", V2) | at("pod", V2 | {"memory.max": f"{GB}"}), 0.0, 1.5),
        ("0::/docker/only-the-host-has-it\n", V2, 1.75, 1.5),
        (
            "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n",
            at("memory/docker/x", V1 | {"memory.stat": V1_STAT})
            | at("memory", V1 | {"memory.limit_in_bytes": f"{HOST}"})
            | at("cpu/docker/x", {"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}),
            1.75,
            0.5,
        ),
        ("4:memory:/docker/x\n", at("memory", V1), 1.0, math.inf),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf, math.inf),
        ("", {}, math.inf, math.inf),
    ],
)
def test_the_nearest_limit_counts(
    tmp_path: Path, membership: str, files: dict[str, str], free_gb: float, quota: float
) -> None:
    found = cgroups(tmp_path, membership, files)
    assert found.free_memory() == free_gb * GB
    assert found.processors() == quota


def test_limits_meet_what_the_machine_has(tmp_path: Path) -> None:
    small = cgroups(tmp_path, "0::/\n", V2 | {"memory.max": f"{GB + GB // 2 - 3}", "cpu.max": "10000 100000"})
    assert free_memory(small) == GB // 4 - 3
    assert processors(small) == 1
    large = cgroups(tmp_path, "0::/\n", V2 | {"memory.max": f"{10**6 * GB}", "cpu.max": "99900000 100000"})
    assert free_memory(large) <= psutil.virtual_memory().total
    assert processors(large) == schedulable_processors()


@pytest.mark.parametrize(
    ("membership", "files", "kills"),
    [
        ("0::/\n", {"memory.events": "low 0\noom 7\noom_kill 2\n"}, 2),
        ("4:memory:/\n", {"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"}, 5),
        ("0::/\n", {}, 3),
    ],
)
def test_kills_for_lack_of_memory_are_counted(
    tmp_path: Path, membership: str, files: dict[str, str], kills: int
) -> None:
    assert cgroups(tmp_path, membership, files).memory_kills() == kills
