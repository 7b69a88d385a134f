"""Make the files that `old_state` holds, with the code of the version before.

    git worktree add /tmp/before 3368b85
    cd /tmp/before && PYTHONPATH=. python …/tests/compatibility/make_old_state.py FOLDER

In the folder of the old code, so that its packages and scripts are the ones that run. Only names
are used that users have, too. The scripts run as they do in production. One consumer ends as a
kill ends it, so that what it leaves (its claims, its bell, a journal of SQLite) is there as well;
and the broker's folder is packed, since Git keeps no named pipe.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from DB.text.database import TextDatabase
from MessageBroker import MessageBrokerFactory
from Queue import FileQueue

# Of each: stored in the DB, then on the way when everything ended.
IMAGES = 6
# Three lines of results fill a segment.
SEGMENT_BYTES = 900
INI = "[broker]\nname = local\n"
MODEL = """
import sys, keras
keras.utils.set_random_seed(1)
layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
keras.Sequential(layers).save(sys.argv[1])
"""
# Of four received images the first and the third are acknowledged; then it is killed.
RECEIVE_AND_DIE = """
import os, sys
from MessageBroker import MessageBrokerFactory
broker = MessageBrokerFactory.get_broker("local", config_dir=sys.argv[1])
subscription = broker.subscribe("new_image_topic")
messages = []
while len(messages) < 4:
    messages += subscription.receive(4 - len(messages), 5.0)
subscription.ack([messages[0], messages[2]])
print(messages[0].id, messages[2].id, flush=True)
os._exit(9)
"""


def run(*command: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.environ["LOCAL_BROKER_PATH"] = str(folder / "broker")
    config = folder.with_name("config")
    config.mkdir()
    (config / "broker_config.ini").write_text(INI)
    (config / "local_config.ini").write_text("[default]\n")
    checkpoint = make_checkpoint(folder / "checkpoint")
    queue, db = folder / "queue" / "log.txt", folder / "db" / "db.txt"
    common = ("--config-dir", config)

    run("app_1.py", "--count", IMAGES, "--ids", folder / "stored.txt", *common)
    publish_what_is_no_image(config)
    idle = ("--exit-when-idle", 2, *common)
    run("model_server_sub.py", "--queue", queue, "--checkpoint", checkpoint, *idle)
    run("model_server_pub.py", "--queue", queue, *idle)
    run("app_2.py", "--db", db, *idle)
    run("app_1.py", "--count", IMAGES, "--ids", folder / "waiting.txt", *common)
    acked = run("-c", RECEIVE_AND_DIE, config, code=9).split()
    add_a_conflict(db)
    fill_and_damage(queue)
    (folder / "acked.json").write_text(json.dumps(acked) + "\n")
    pack(folder / "broker")
    shutil.rmtree(config)


def make_checkpoint(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "tiny.keras"
    run("-c", MODEL, path)
    data = folder.with_name("data.npz")
    generator = np.random.default_rng(1)
    images = generator.integers(0, 255, (64, 8, 8), np.uint8)
    labels = generator.integers(0, 3, 64, np.uint8)
    np.savez(data, x_train=images, y_train=labels, x_test=images, y_test=labels)
    run("-m", "Modelling.quantise", path, "--data", data, "--labels", "cat,dog,bird")
    data.unlink()
    return path


def publish_what_is_no_image(config: Path) -> None:
    with MessageBrokerFactory.get_broker("local", config_dir=config) as broker:
        for number in range(2):
            attributes = {"ce_id": f"no-image-{number}", "ce_source": "/camera"}
            broker.publish("new_image_topic", b"no image", attributes=attributes).result()


def add_a_conflict(path: Path) -> None:
    with TextDatabase(path) as db:
        first = next(iter(db))
        assert db.insert([{"id": first["id"], "label": "another"}]).conflicts


def fill_and_damage(path: Path) -> None:
    """A sealed segment, one record of it committed; a corrupt line; a torn line at the end."""
    with FileQueue(path, segment_bytes=SEGMENT_BYTES) as queue:
        for number in range(2):
            queue.put([{"id": f"corrupt-{number}", "label": "7", "padding": 50 * "x"}])
    damaged = path.read_bytes().replace(b"corrupt-0", b"CORRUPT-0")
    path.write_bytes(damaged)
    with FileQueue(path, segment_bytes=SEGMENT_BYTES) as queue:
        batch = queue.take(2, timeout=5)
        queue.commit(batch)
        for number in range(8):
            queue.put([{"id": f"waiting-{number}", "label": "7", "padding": 200 * "x"}])
        queue.commit(queue.take(1, timeout=5))
    with path.open("ab") as file:
        file.write(b'{"seq":999,"id":"torn","lab')


def pack(folder: Path) -> None:
    with tarfile.open(folder.with_suffix(".tar.gz"), "w:gz") as archive:
        archive.add(folder, folder.name, filter=without_owner)
    shutil.rmtree(folder)


def without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
