"""The Debian package: the program with its Python packages and models, and what firmware-image/packaging has beside it."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from email.parser import HeaderParser
from pathlib import Path

from imagekit import base, cache, trees, wheels
from imagekit.chroot import inside
from imagekit.errors import BuildError
from imagekit.plan import CHECKOUT, FIRMWARE, PYTHON, Plan
from imagekit.shell import run, say, step

PACKAGING = FIRMWARE / "packaging"
MODELS = CHECKOUT / ".models"
VERSION = "5"
"""Raised whenever the way of making the package changes."""

HOME = Path("opt/prime-spark")
SITE = HOME / f"lib/python{PYTHON}/site-packages"
PYTHON_DEPENDS = (f"python3 (>= {PYTHON})", "python3 (<< 3.14)")

RECOMMENDED = "wireguard-tools, age"
"""What it can do without."""

CONFIGURATION = (
    f"home = /usr/bin\ninclude-system-site-packages = true\nversion = {PYTHON}\nexecutable = /usr/bin/python{PYTHON}\n"
)

SCRIPT = "#!/opt/prime-spark/bin/python\nimport sys\n\nfrom appliance.__main__ import main\n\nsys.exit(main())\n"

CONTROL = """Package: prime-spark
Version: {version}
Architecture: {arch}
Maintainer: The Prime Spark developers <prime-spark@localhost>
Installed-Size: {size}
Depends: {depends}
Recommends: {recommends}
Section: admin
Priority: optional
Description: edge appliance for the Control PC
 Inference, memory, power, VPN and fleet on one console that never pretends:
 on the machine's own screen, over SSH, by REST and by commands.
"""


def package(plan: Plan, public: Path, sources: Path | None = None) -> Path:
    """The package of that version, from the cache or made now.

    Args:
        plan: What is built.
        public: The key that releases are checked with (minisign).
        sources: sources.list for Debian's packages; None for this machine's own archive.

    Raises:
        BuildError: It could not be made.
    """
    check_models()
    own = [CHECKOUT / name for name in ("appliance", "requirements/run.txt", "pyproject.toml", "README.md", "LICENSE")]
    key = cache.digest(
        VERSION,
        plan.version,
        str(plan.epoch),
        ", ".join(depends(plan.arch)),
        str(plan.fast),
        public,
        PACKAGING,
        *own,
        *models(),
    )

    def make(into: Path) -> None:
        with step(f"making the Debian package for {plan.arch}"):
            tree = into / "tree"
            fill(plan, tree, into, sources)
            trees.write(tree / "usr/share/prime-spark/release.pub", public.read_text())
            finish(plan, tree)
            pack(plan, tree, into / f"prime-spark_{plan.version}_{plan.arch}.deb")
        cache.remove(tree)
        for scratch in ("own", "ours"):
            cache.remove(into / scratch)

    return next(cache.made(plan.cache, f"deb-{plan.arch}", key, make).glob("*.deb"))


def models() -> list[Path]:
    """Directories of the models that ship: each has a manifest."""
    manifests = (*MODELS.glob("*/manifest.toml"), *MODELS.glob("*/*/manifest.toml"), *MODELS.glob("*/*/voice.toml"))
    return sorted({each.parent for each in manifests})


def check_models() -> None:
    """Check that set-up has made the models. Raises BuildError."""
    if not any((each / "manifest.toml").is_file() for each in models()):
        raise BuildError(f"No model is in {MODELS}.", "fetch them: scripts/setup.sh run")


def libraries(plan: Plan, sources: Path | None) -> Path:
    """The tree with all Python packages but our own, compiled; from the cache or made now. Raises BuildError."""
    found = wheels.fetched(plan)
    tools = base.tools(plan, sources)

    def make(into: Path) -> None:
        with step(f"unpacking and compiling the Python packages for {plan.machine}"):
            wheels.install(sorted(found.glob("*.whl")), into / SITE, plan.machine)
            compiled(into, SITE, tools, plan.epoch)

    return cache.made(plan.cache, f"libraries-{plan.machine}", cache.digest(VERSION, found.name, tools.parent.name), make)


def fill(plan: Plan, tree: Path, into: Path, sources: Path | None) -> None:
    """Lay out all files of the package. Raises BuildError."""
    ours = into / "ours"
    wheels.install([wheels.own(plan, into / "own")], ours / SITE, plan.machine)
    compiled(ours, SITE, base.tools(plan, sources), plan.epoch)
    tree.mkdir()
    for layer in (libraries(plan, sources), ours):
        trees.copy(layer, tree)
    for each in models():
        shutil.copytree(each, tree / "usr/share/prime-spark/models" / each.relative_to(MODELS))
    trees.write(tree / HOME / "pyvenv.cfg", CONFIGURATION)
    (tree / HOME / "bin").mkdir()
    for name in ("python", "python3", f"python{PYTHON}"):
        (tree / HOME / "bin" / name).symlink_to(f"/usr/bin/python{PYTHON}")
    trees.write(tree / HOME / "bin/prime-spark", SCRIPT, 0o755)
    trees.lay([PACKAGING / "tree"], tree)
    trees.write(tree / "usr/share/doc/prime-spark/copyright", licences(tree / SITE))
    changes = (CHECKOUT / "CHANGELOG.md").read_bytes()
    (tree / "usr/share/doc/prime-spark/changelog.gz").write_bytes(gzip.compress(changes, 9, mtime=0))


def compiled(tree: Path, below: Path, tools: Path, epoch: int) -> None:
    """Compile all Python files below a directory of a tree, for their content and not for their time. Raises BuildError."""
    words = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", "/mnt", "-p", "/", f"/mnt/{below}")
    try:
        inside(tools, epoch, f"/usr/bin/python{PYTHON}", *words, bound=tree)
    except BuildError as error:
        say(f"  not all files could be compiled: {error}")
        raise


def licences(site: Path) -> str:
    """The file `copyright`: our licence, and what each Python package says of its own; their full texts lie beside them."""
    rows = []
    for file in sorted(site.glob("*.dist-info/METADATA"), key=lambda each: each.parent.name.lower()):
        head = HeaderParser().parsestr(file.read_text(errors="replace"))
        classes = [each.rpartition(" :: ")[2] for each in head.get_all("Classifier", []) if each.startswith("License ::")]
        said = head.get("License-Expression") or ", ".join(classes) or (head.get("License") or "").strip().split("\n")[0][:80]
        rows.append(f" {head['Name']} {head['Version']}: {said or 'see its files'}")
    return (
        "Prime Spark\n\n"
        + (CHECKOUT / "LICENSE").read_text()
        + "\nIt comes with these Python packages; the texts of their licences lie in\n"
        f"/{SITE}/*.dist-info:\n\n"
        + "\n".join(rows)
        + "\n\nModels: see the manifest beside each, in /usr/share/prime-spark/models.\n"
    )


def depends(arch: str) -> list[str]:
    """What the package depends on: Python, and the lines of packaging/depends.txt that hold for that processor."""
    found = list(PYTHON_DEPENDS)
    file = PACKAGING / "depends.txt"
    lines = file.read_text().splitlines() if file.is_file() else []
    for line in (each.split("#")[0].strip() for each in lines):
        only = re.search(r"\s*\[([a-z0-9 ]+)\]$", line)
        if line and (only is None or arch in only[1].split()):
            found.append(line[: only.start()] if only else line)
    return [*found, *(f"python3-{name}" for name in sorted(wheels.FROM_DEBIAN[arch]))]


def finish(plan: Plan, tree: Path) -> None:
    """Write the package's control files and give all files one owner, fixed modes and times."""
    control = tree / "DEBIAN"
    trees.lay([PACKAGING / "DEBIAN"], control)
    for script in ("preinst", "postinst", "prerm", "postrm"):
        if (control / script).exists():
            (control / script).chmod(0o755)
    size = sum(each.lstat().st_size for each in tree.rglob("*") if each.is_file() and not each.is_symlink()) // 1024
    trees.write(
        control / "control",
        CONTROL.format(
            version=plan.version,
            arch=plan.arch,
            size=size,
            depends=", ".join(depends(plan.arch)),
            recommends=RECOMMENDED,
        ),
    )
    etc = sorted(f"/{each.relative_to(tree)}" for each in (tree / "etc").rglob("*") if each.is_file())
    trees.write(control / "conffiles", "".join(f"{name}\n" for name in etc))
    trees.write(control / "md5sums", sums(tree))
    for each in tree.rglob("*"):
        if each.is_dir():
            each.chmod(0o755)
        elif not each.is_symlink():
            each.chmod(0o755 if each.stat().st_mode & 0o111 else 0o644)
    trees.clamp(tree, plan.epoch)


def sums(tree: Path) -> str:
    """The list that `dpkg --verify` compares with."""
    rows = []
    for each in sorted(tree.rglob("*")):
        name = each.relative_to(tree)
        if each.is_file() and not each.is_symlink() and name.parts[0] not in {"DEBIAN", "etc"}:
            rows.append(f"{hashlib.md5(each.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n")
    return "".join(rows)


def pack(plan: Plan, tree: Path, target: Path) -> None:
    """Make the .deb. Raises BuildError."""
    os.utime(tree, (plan.epoch, plan.epoch))
    level = "1" if plan.fast else "15"
    run("dpkg-deb", "--root-owner-group", "-Zzstd", f"-z{level}", "--build", tree, target, env=plan.env)
