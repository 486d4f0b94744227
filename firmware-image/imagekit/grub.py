"""GRUB for UEFI as one file that needs no installation: its configuration lies beside it on p1."""

from __future__ import annotations

from pathlib import Path

from imagekit.errors import BuildError
from imagekit.shell import need, run

MODULES_DIR = Path("/usr/lib/grub/x86_64-efi")
MODULES = (
    "part_gpt", "fat", "linux", "normal", "test", "true", "loadenv", "search", "search_label", "search_fs_uuid",
    "configfile", "echo", "serial",
    "terminal", "terminfo", "reboot", "halt", "sleep", "minicmd", "ls", "cat", "regexp", "probe", "all_video", "efi_gop",
    "eval", "read", "keystatus",
)  # fmt: skip


def efi(target: Path) -> None:
    """Make BOOTX64.EFI; it reads /EFI/BOOT/grub.cfg of the partition that it was started from. Raises BuildError."""
    need("grub-mkimage")
    if not MODULES_DIR.is_dir():
        raise BuildError("GRUB's modules for UEFI are not installed.", "sudo apt-get install grub-efi-amd64-bin")
    target.parent.mkdir(parents=True, exist_ok=True)
    run("grub-mkimage", "-O", "x86_64-efi", "-d", MODULES_DIR, "-p", "/EFI/BOOT", "-o", target, *MODULES)
