"""What the builder of images does with files, by the real programs, on small ones."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from imagekit import cache, compare, disk, filesystems, keys, layout, publish, shell, trees
from imagekit.errors import BuildError

from tests.support import needs_program

EPOCH = 1_700_000_000


def tree(top: Path, **files: str) -> Path:
    for name, text in files.items():
        file = top / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return top


def test_a_finished_thing_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []
    for _ in range(2):
        place = cache.made(tmp_path, "base-amd64", "0123456789abcdef", made.append)
    assert place.is_dir()
    assert len(made) == 1


def test_what_a_stopped_build_left_is_made_anew(tmp_path: Path) -> None:
    def stops(into: Path) -> None:
        (into / "half").touch()
        raise BuildError("stopped", "again")

    with pytest.raises(BuildError):
        cache.made(tmp_path, "base-amd64", "0123456789abcdef", stops)
    place = cache.made(tmp_path, "base-amd64", "0123456789abcdef", lambda into: (into / "whole").touch())
    assert [each.name for each in place.iterdir()] == ["whole"]


def test_old_things_leave_the_cache(tmp_path: Path) -> None:
    for number in range(cache.KEEP + 2):
        cache.made(tmp_path, "base-amd64", f"{number:016x}", lambda into: None)
    cache.made(tmp_path, "base-amd64-other", f"{0:016x}", lambda into: None)
    assert len(list(tmp_path.glob("base-amd64-0*"))) == cache.KEEP
    assert (tmp_path / f"base-amd64-other-{0:016x}").is_dir()


@pytest.mark.parametrize("change", ["name", "mode", "content"])
def test_the_hash_of_a_tree_tells_changes(tmp_path: Path, change: str) -> None:
    top = tree(tmp_path / "top", a__b="text")
    before = cache.digest(top)
    assert cache.digest(top) == before
    if change == "name":
        (top / "a/b").rename(top / "a/c")
    elif change == "mode":
        (top / "a/b").chmod(0o755)
    else:
        (top / "a/b").write_text("other")
    assert cache.digest(top) != before


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shell.PACKAGES, "no-such-program", "a-package")
    with pytest.raises(BuildError) as caught:
        shell.need("no-such-program")
    assert caught.value.next_step == "install them: sudo apt-get install a-package"


@pytest.mark.parametrize(
    ("said", "hint"), [("E: write: No space left on device", "--cache"), ("what?", "again")], ids=["full", "other"]
)
def test_a_failed_program_says_the_next_step(said: str, hint: str) -> None:
    with pytest.raises(BuildError, match="status 3") as caught:
        shell.run("sh", "-c", f"echo '{said}' >&2; exit 3")
    assert hint in caught.value.next_step


def test_a_laid_tree_leaves_other_links_alone(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", etc__motd="base")
    twin = tmp_path / "twin"
    twin.mkdir()
    trees.twin(base, twin)
    trees.lay([tree(tmp_path / "over", etc__motd="over", etc__new="new")], twin)
    assert (base / "etc/motd").read_text() == "base"
    assert (twin / "etc/motd").read_text() == "over"
    assert not (base / "etc/new").exists()


def test_a_file_never_takes_the_place_of_a_directory(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="place of a directory"):
        trees.lay([tree(tmp_path / "over", etc="file")], tree(tmp_path / "root", etc__motd="base"))


def test_the_same_tree_gives_the_same_fat(tmp_path: Path) -> None:
    for each in ("mkfs.vfat", "mcopy"):
        needs_program(each)
    images = []
    for name in ("one", "two"):
        top = tree(tmp_path / name, b="2", a="1", c__d="3")
        filesystems.fat(top, tmp_path / f"{name}.vfat", 64, "TEST", EPOCH, layout.volume("test"))
        images.append(hashlib.sha256((tmp_path / f"{name}.vfat").read_bytes()).hexdigest())
    assert images[0] == images[1]
    assert subprocess.run(["mtype", "-i", tmp_path / "one.vfat", "::c/d"], capture_output=True, check=True).stdout == b"3"


def test_what_does_not_fit_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="do not fit"):
        filesystems.fat(tree(tmp_path / "top", large="x" * 2 * layout.MIB), tmp_path / "fat", 5, "TEST", EPOCH, "00000001")


def test_contents_come_to_their_partitions(tmp_path: Path) -> None:
    needs_program("sfdisk")
    part = tmp_path / "part"
    part.write_bytes(b"boot" + bytes(3 * layout.MIB) + b"end")
    image = tmp_path / "whole.img"
    disk.assemble(image, "amd64", {"boot-b": part})
    row = layout.partitions("amd64")[2]
    with image.open("rb") as file:
        file.seek(row.start)
        assert file.read(part.stat().st_size) == part.read_bytes()
    assert image.stat().st_size == layout.total(layout.partitions("amd64"))
    assert image.stat().st_blocks * 512 < 8 * layout.MIB
    shown = subprocess.run(["sfdisk", "--dump", image], capture_output=True, text=True, check=True).stdout
    assert shown.count('name="') == 6


def test_differences_are_named(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", same="1", content="1", gone="1")
    two = tmp_path / "two"
    shutil.copytree(one, two)
    (two / "gone").unlink()
    (two / "content").write_text("2")
    (two / "same").chmod(0o755)
    found = dict(each.split(": ", 1) for each in compare.differing(one, two))
    assert found["gone"] == "only in the first"
    assert "content" in found["content"]
    assert found["same"] == "kind and mode"
    assert compare.compare(one / "content", one / "content") == []


def test_the_development_key_is_kept_and_private(tmp_path: Path) -> None:
    made = keys.signer(tmp_path, None, None)
    assert not made.own
    assert made.key.stat().st_mode & 0o077 == 0
    text = made.key.read_text()
    assert keys.signer(tmp_path, None, None).key.read_text() == text


def test_half_a_pair_of_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="belong together"):
        keys.signer(tmp_path, tmp_path / "key", None)
    with pytest.raises(BuildError, match="belong together"):
        publish.release_key(tmp_path, None, tmp_path / "pub")


def test_a_key_that_asks_for_a_password_is_refused_before_the_build(tmp_path: Path) -> None:
    needs_program("minisign")
    secret, public = tmp_path / "release.key", tmp_path / "release.pub"
    subprocess.run(["minisign", "-G", "-W", "-s", secret, "-p", public], check=True, capture_output=True)
    assert publish.release_key(tmp_path, secret, public).own
    mark, coded = secret.read_text().splitlines()
    raw = base64.b64decode(coded)
    secret.write_text(f"{mark}\n{base64.b64encode(raw[:2] + b'Sc' + raw[4:]).decode()}\n")  # as `minisign -G` makes it
    with pytest.raises(BuildError, match="A password protects") as error:
        publish.release_key(tmp_path, secret, public)
    assert "minisign -C -W" in error.value.next_step
    with pytest.raises(BuildError, match="no secret key of minisign"):
        publish.release_key(tmp_path, public.rename(secret), secret)


def test_what_sudo_built_is_given_back(tmp_path: Path) -> None:
    out = tree(tmp_path / "build/image")
    out.mkdir(parents=True)
    (out / "x.deb").write_text("x")
    mine = {"SUDO_UID": str(os.getuid()), "SUDO_GID": str(os.getgid())}
    publish.hand_over(out, tmp_path, {})
    publish.hand_over(out, tmp_path, mine | ({"SUDO_UID": "12345"} if os.getuid() == 0 else {}))
    owners = [each.stat().st_uid for each in (tmp_path, tmp_path / "build", out, out / "x.deb")]
    assert owners == [os.getuid(), *([12345 if os.getuid() == 0 else os.getuid()] * 3)]


def test_the_list_of_checksums_is_signed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_program("minisign")
    out = tree(tmp_path / "out")
    out.mkdir()
    (out / "prime-spark-1-amd64.raucb").write_text("bundle")
    (out / "root.squashfs").write_text("not released")
    key = publish.release_key(tmp_path / "cache", None, None)
    publish.sign(out, key)
    assert "vouches for prime-spark-1-amd64.raucb; release.pub checks it\n" in capsys.readouterr().err
    assert (out / publish.SUMS).read_text() == f"{hashlib.sha256(b'bundle').hexdigest()}  prime-spark-1-amd64.raucb\n"
    check = ["minisign", "-V", "-q", "-p", key.public, "-m", out / publish.SUMS, "-x", out / publish.SIGNATURE]
    subprocess.run(check, check=True)
    assert (out / publish.PUBLIC).read_text() == key.public.read_text()
    publish.sign(out, publish.ReleaseKey(key.secret, out / publish.PUBLIC, own=True))  # the key that lies there already
    (out / publish.SUMS).write_text("other\n")
    assert subprocess.run(check, check=False, capture_output=True).returncode != 0
