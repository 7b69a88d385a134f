"""Apache Kafka's jars, which come by Maven, once, into `.brokers/` in the project's root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

from tests.servers import skip_if_missing

KAFKA_VERSION = "4.1.0"
BROKERS_FOLDER = Path(__file__).resolve().parents[2] / ".brokers"
POM = Path(__file__).with_name("pom.xml")
# Other jars, another folder: those that an earlier version has fetched are not all.
JARS = BROKERS_FOLDER / f"kafka-{KAFKA_VERSION}-{zlib.crc32(POM.read_bytes()):08x}"
# See tests/brokers/class_archive.py. A JVM of another version goes without it.
CLASS_ARCHIVE = JARS / "classes.jsa"

HOW_TO_GET_THEM = (
    "a real Kafka needs Java 17 or later and Maven: `apt-get install default-jre-headless maven`, "
    "or `brew install openjdk maven`"
)


class KafkaMissingError(RuntimeError):
    """Raised where no Kafka can be run."""


def fetch_jars() -> Path:
    """Return the folder of Kafka's jars; fetch them on the first call (43 MB).

    Raises:
        KafkaMissingError: without Java or Maven, or if Maven cannot fetch them.
    """
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if "java" in missing or (missing and not JARS.is_dir()):
        raise KafkaMissingError(f"{' and '.join(missing)} not found: {HOW_TO_GET_THEM}")
    if not JARS.is_dir():
        BROKERS_FOLDER.mkdir(exist_ok=True)
        # Renamed when complete: an interrupted download, or two at once, leave no half folder.
        partial = Path(tempfile.mkdtemp(prefix="kafka-", dir=BROKERS_FOLDER))
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(POM)]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
        command += ["-DincludeScope=runtime"]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        if outcome.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise KafkaMissingError(f"Maven could not fetch Kafka:\n{outcome.stdout[-2000:]}")
        try:
            partial.rename(JARS)
        except OSError:  # another process was quicker
            shutil.rmtree(partial, ignore_errors=True)
    return JARS


def find_or_skip() -> None:
    """Skip the test where no Kafka can be run; fail it there if `CI` is set."""
    skip_if_missing(fetch_jars, KafkaMissingError)


def java_command(main: str, *arguments: str, heap: str = "512m") -> list[str]:
    """Return the command line that runs one of Kafka's programs."""
    return [
        "java",
        f"-Xmx{heap}",
        # The second compiler costs a short-lived broker more than it gives: 3 s up, not 5.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        *([f"-XX:SharedArchiveFile={CLASS_ARCHIVE}"] if CLASS_ARCHIVE.exists() else ()),
        f"-Dlog4j2.configurationFile={POM.with_name('log4j2.properties')}",
        "-cp",
        f"{JARS}/*",
        main,
        *arguments,
    ]
