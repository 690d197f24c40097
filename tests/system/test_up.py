"""What `store up` promises: ready files, restarts with all data, clear errors."""

import os
import socket
import stat
import subprocess

from conftest import BIN


def test_the_environment_file_is_whole_and_private(make_cluster):
    cluster = make_cluster().up()
    path = cluster.dir / "store.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for key in ("STORE_MONITORS", "STORE_S3_ENDPOINT", "STORE_ADMIN_ENDPOINT", "AWS_ENDPOINT_URL",
                "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        assert cluster.env[key]
    status = cluster.json("status")
    assert status["health"]["status"] == "HEALTH_OK", status
    assert cluster.stop() == 0


def test_data_and_keys_stay_over_a_clean_restart_and_a_kill(make_cluster):
    cluster = make_cluster().up()
    keys = cluster.env["AWS_ACCESS_KEY_ID"], cluster.env["AWS_SECRET_ACCESS_KEY"]
    cluster.s3().create_bucket(Bucket="kept")
    cluster.s3().put_object(Bucket="kept", Key="small", Body=b"small")
    cluster.s3().put_object(Bucket="kept", Key="large", Body=b"large" * 1_000_000)
    assert cluster.stop() == 0
    cluster.up()
    cluster.s3().put_object(Bucket="kept", Key="second", Body=b"second")
    cluster.kill_all()
    cluster.up()
    assert (cluster.env["AWS_ACCESS_KEY_ID"], cluster.env["AWS_SECRET_ACCESS_KEY"]) == keys
    read = lambda key: cluster.s3().get_object(Bucket="kept", Key=key)["Body"].read()
    assert read("small") == b"small"
    assert read("large") == b"large" * 1_000_000
    assert read("second") == b"second"
    cluster.store("wait", "health=ok", "--timeout", "60")


def up_fails(*flags, env=None):
    done = subprocess.run([BIN / "store", "up", *map(str, flags)], capture_output=True, timeout=60,
                          env={**os.environ, **(env or {})})
    assert done.returncode not in (0, 101), done
    text = done.stderr.decode().strip()
    assert "panicked" not in text
    return text


def test_a_taken_port_is_named_with_the_cure(tmp_path):
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", 8888))
        taken.listen()
    except OSError:
        pass  # Somebody else has it: as good.
    text = up_fails("--dir", tmp_path / "d")
    assert "8888" in text and "--ports auto" in text, text
    taken.close()


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    text = up_fails("--dir", tmp_path / "file", "--ports", "auto")
    assert str(tmp_path / "file") in text, text
    assert len(text.splitlines()) <= 3, text


def test_a_directory_in_use_is_refused(make_cluster):
    cluster = make_cluster().up()
    text = up_fails("--dir", cluster.dir, "--ports", "auto")
    assert "in use" in text, text
    cluster.json("status")


def test_a_daemon_of_another_cluster_is_refused(make_cluster, tmp_path):
    one = make_cluster("--processes", name="one").up()
    two = make_cluster("--processes", name="two").up()
    assert two.stop() == 0
    # A daemon's directory of the first cluster where the second one's stood.
    assert one.stop() == 0
    daemon = next(p for p in two.dir.iterdir() if p.is_dir() and p.name.startswith("daemon"))
    daemon.rename(two.dir / "away")
    (one.dir / daemon.name).rename(daemon)
    text = up_fails("--dir", two.dir, "--ports", "auto", "--processes")
    assert "belongs to cluster" in text, text


def test_usage_errors_are_two_and_say_what_is_wrong():
    done = subprocess.run([BIN / "store", "pool", "create"], capture_output=True)
    assert done.returncode == 2
    done = subprocess.run([BIN / "store", "no-such-noun"], capture_output=True)
    assert done.returncode == 2
