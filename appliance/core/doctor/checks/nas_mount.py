"""The NAS: mounted, proved by its marker file, and answering."""

from __future__ import annotations

import json
import sys

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

MARKER = ".prime-spark-nas"
"""File on the NAS itself: where it is seen, the NAS is mounted and not an empty directory of the local disk."""
ASK = """
import json, os, sys
place, marker = sys.argv[1:]
told = os.statvfs(place)
try:
    with open(os.path.join(place, marker), "rb") as file:
        file.read(1)
    seen = True
except FileNotFoundError:
    seen = False
print(json.dumps([seen, bool(told.f_flag & os.ST_RDONLY), told.f_bavail * told.f_frsize]))
"""


async def run(context: DoctorContext) -> CheckResult:
    """Touch the mount in a child, because a NAS that went away hangs whoever touches it."""
    place = str(context.nas_path)
    mounted = place in mount_points(context.text("proc/self/mountinfo"))
    answer = await probe.run([sys.executable, "-I", "-S", "-c", ASK, place, MARKER], context.environ, limit=3)
    if answer.hung:
        return CHECK.failed(
            f"{place} hangs: {answer.problem}", f"is the NAS up? then: sudo umount -f -l {place} && sudo mount {place}"
        )
    if not answer.good:
        if not mounted:
            return CHECK.absent(f"nothing is mounted at {place}", mount_fix(place))
        return CHECK.failed(
            f"{place} is mounted and cannot be read: {answer.problem}", f"sudo umount -f -l {place} && sudo mount {place}"
        )
    seen, read_only, free = json.loads(answer.out)
    return judge(place, mounted=mounted, marked=seen, read_only=read_only, free=free)


def judge(place: str, *, mounted: bool, marked: bool, read_only: bool, free: int) -> CheckResult:
    """Whether tier 2 can write there.

    Args:
        place: The mount point.
        mounted: Whether a file system is mounted at it.
        marked: Whether the marker file was read.
        read_only: Whether the file system refuses writes.
        free: Bytes that can be written.
    """
    if not mounted and marked:
        return CHECK.failed(
            f"{place}/{MARKER} lies on the local disk: nothing is mounted there", f"rm {place}/{MARKER}; {mount_fix(place)}"
        )
    if not mounted:
        return CHECK.absent(f"nothing is mounted at {place}", mount_fix(place))
    if not marked:
        return CHECK.failed(f"{place} is mounted, without the marker file that proves it is the NAS", f"touch {place}/{MARKER}")
    if read_only:
        return CHECK.failed(f"{place} is mounted read-only", f"sudo mount -o remount,rw {place}")
    return CHECK.ok(f"{place} is mounted and answers; {free / 2**30:.1f} GiB free")


def mount_fix(place: str) -> str:
    """How to mount a NAS."""
    return (
        f"put the share into /etc/fstab (options: soft,nofail), then: sudo mount {place} && touch {place}/{MARKER}; "
        "on our image: [mounts.nas] in prime-spark.toml (docs/first-boot.md)"
    )


def mount_points(mountinfo: str) -> set[str]:
    """The mount points of /proc/self/mountinfo, whose blanks are octal escapes (proc(5))."""
    points = set()
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            points.add(fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
    return points


CHECK = Check("nas_mount", "NAS", run, timeout=6)
