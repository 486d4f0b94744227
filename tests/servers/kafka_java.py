"""Apache Kafka's jars, and how a Java program of theirs is run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers.child import ServerError
from tests.support import capability, needs_program

HOME = Path(__file__).resolve().parents[2] / ".kafka"  # filled by make setup from tests/kafka/pom.xml
ARCHIVE = HOME / "classes.jsa"  # loaded classes as Java likes them; without it Java starts all the same, a second later
QUICK = ("-XX:TieredStopAtLevel=1",)  # starts sooner, and is slower once it is warm


def classpath() -> str:
    """All jars, in the order that the archive of classes was made with; see capability where there are none."""
    jars = sorted(HOME.glob("*.jar"))
    capability(bool(jars), "Apache Kafka (Java 17 and Maven)")
    return ":".join(str(each) for each in jars)


def java(main: str, *arguments: str, temporary: Path, options: tuple[str, ...] = QUICK) -> list[str]:
    """The command that runs the class `main`.

    Args:
        main: class with a main method.
        arguments: its own.
        temporary: directory for the native libraries that it unpacks.
        options: for the virtual machine.
    """
    shared = ("-Xshare:auto", f"-XX:SharedArchiveFile={ARCHIVE}") if ARCHIVE.exists() else ()
    modest = ("-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xlog:disable", "-Xlog:all=error:stderr")
    places = (f"-Djava.io.tmpdir={temporary}", f"-Dorg.xerial.snappy.tempdir={temporary}")
    log = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
    return [needs_program("java"), *shared, *modest, *places, *log, *options, "-cp", classpath(), main, *arguments]


def run_tool(main: str, *arguments: str, temporary: Path, timeout: float = 60.0) -> str:
    """Run one of Kafka's command line tools to its end and return what it printed; it may run in any thread.

    Args:
        main: its class.
        arguments: as on its command line.
        temporary: see java.
        timeout: seconds.

    Raises:
        ServerError: it ended with another code than 0.
    """
    command = ["setpriv", "--pdeathsig=KILL", "--", *java(main, *arguments, temporary=temporary)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ServerError(f"{main} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
