"""A whole store over TLS: library, command line, signed URLs for other programs, and what a network shows of it."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trio

import warehouse
from harness import ROOT, RunningStore, environment
from tls_kit import Tls
from warehouse.conf.profile import Profile

ON = """
[tls]
mode = "on"
[store]
chunk_size = "256KiB"
"""
LARGE = os.urandom(2_000_000)


def curl(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["curl", "--silent", "--show-error", *words], capture_output=True, timeout=120)


async def use(profile: Path) -> tuple[str, str]:
    """Put and get small, many and large objects; return a URL to read one of many chunks, and one to write."""
    async with warehouse.connect(profile) as client:
        photos = await client.create_bucket("photos")
        await photos.put("small", b"hello")
        assert await photos.get("small") == b"hello"
        many = [(f"many/{number}", bytes([number]) * 3000) for number in range(100)]
        assert not [one.error async for one in photos.put_many(many) if one.error]
        found = [(one.key, one.data) async for one in photos.get_many([key for key, _ in many])]
        assert found == many
        await photos.put("large", LARGE)
        assert await photos.get("large") == LARGE
        async with photos.open("large", start=300_000, length=600_000) as stream:
            assert b"".join([piece async for piece in stream]) == LARGE[300_000:900_000]
        return await photos.presign_get("large"), await photos.presign_put("uploaded", size_max=100_000)


async def read(profile: Path | Profile, key: str) -> bytes:
    async with warehouse.connect(profile) as client:
        return await client.bucket("photos").get(key)


@pytest.mark.timeout(300)
def test_a_store_works_over_tls(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", volumes=2, config=ON) as store:
        base = store.port_base
        ready = store.events[-1]
        assert ready["volumes"] == [f"https://127.0.0.1:{base + 10}", f"https://127.0.0.1:{base + 11}"]
        assert ready["master_http"] == f"https://127.0.0.1:{base + 1}"
        get_url, put_url = trio.run(use, store.profile)
        assert get_url.startswith("https://")

        # Any program with the authority, and no other.
        authority = str(store.data / "master" / "authority.pem")
        context = ssl.create_default_context(cafile=authority)
        assert urllib.request.urlopen(get_url, context=context, timeout=30).read() == LARGE
        for url in (ready["master_http"] + "/healthz", f"https://127.0.0.1:{base + 110}/metrics"):
            assert urllib.request.urlopen(url, context=context, timeout=30).status == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(get_url, timeout=30)
        if shutil.which("curl"):
            assert curl("--cacert", authority, get_url).stdout == LARGE
            body = tmp_path / "body"
            body.write_bytes(b"x" * 50_000)
            done = curl("--cacert", authority, "--fail", "--upload-file", str(body), put_url)
            assert done.returncode == 0, done.stderr
            assert curl(get_url).returncode == 60  # "peer certificate cannot be authenticated"
            assert b"tls_required" in curl(get_url.replace("https:", "http:")).stdout
            assert curl("--cacert", authority, "--tls-max", "1.1", get_url).returncode == 35
            assert trio.run(read, store.profile, "uploaded") == b"x" * 50_000

        # A profile of release 0.1.0 has no authority: the login tells it.  Another's is replaced by it, too.
        values = tomllib.loads(store.profile.read_text())
        assert "BEGIN CERTIFICATE" in values.pop("authority")
        assert trio.run(read, Profile(**values), "small") == b"hello"
        joined = tomllib.loads((store.data / "master" / "join.toml").read_text())
        assert joined["authority"] == Path(authority).read_text()

        # Certificates outlive their actors; one of another authority is replaced.
        certificate = (store.data / "disk-1" / "tls.pem").read_bytes()
        assert (store.data / "disk-1" / "tls.key").stat().st_mode & 0o777 == 0o600
        store.stop()
        (tmp_path / "other").mkdir()
        for path, name in zip(
            Tls(tmp_path / "other").issue("127.0.0.1"), ("tls.pem", "tls.key"), strict=True
        ):
            shutil.copy(path, store.data / "disk-2" / name)
        store.start()
        assert (store.data / "disk-1" / "tls.pem").read_bytes() == certificate
        assert trio.run(read, store.profile, "large") == LARGE
    assert "Traceback" not in store.log.read_text()
    assert "PRIVATE KEY" not in store.log.read_text()


@pytest.mark.timeout(300)
def test_a_store_that_others_can_reach_is_encrypted_or_refused(tmp_path: Path) -> None:
    everywhere = ["--host", "0.0.0.0", "--advertise", "127.0.0.1"]
    with RunningStore(tmp_path / "store", arguments=everywhere) as store:
        assert store.events[-1]["volumes"][0].startswith("https://")
        assert store.events[-1]["master_http"] == f"http://127.0.0.1:{store.port_base + 1}"
        trio.run(use, store.profile)
        store.stop()

        command = [sys.executable, "-m", "warehouse.actors.cluster", "--data", str(store.data), "--json"]
        command += ["--port-base", str(store.port_base), *everywhere]
        off = environment({"WAREHOUSE_TLS_MODE": "off"})
        refused = subprocess.run(command, env=off, capture_output=True, timeout=120)
        assert refused.returncode == 1
        event = json.loads(refused.stdout)
        assert event["code"] == "listener_insecure"
        assert "--insecure" in event["message"]

        open_to_all = environment({"WAREHOUSE_MONITORING_HOST": "0.0.0.0"})
        refused = subprocess.run(command, env=open_to_all, capture_output=True, timeout=120)
        assert refused.returncode == 1
        assert "monitoring.token_file" in json.loads(refused.stdout)["message"]

    insecure = RunningStore(
        tmp_path / "store",
        env={"WAREHOUSE_TLS_MODE": "off"},
        arguments=[*everywhere, "--insecure"],
        port_base=store.port_base,
    )
    with insecure as store:
        assert store.events[-1]["volumes"][0].startswith("http://")
        assert trio.run(read, store.profile, "small") == b"hello"


@pytest.mark.timeout(300)
def test_certificates_of_the_operator(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = Tls(tmp_path / "theirs")
    certificate, key = theirs.issue("localhost")
    authority = tmp_path / "their-authority.pem"
    authority.write_text(theirs.authority.bundle)
    config = f'[tls]\nmode = "on"\ncertificate = "{certificate}"\nkey = "{key}"\nauthority = "{authority}"\n'
    with RunningStore(tmp_path / "store", config=config, arguments=["--advertise", "localhost"]) as store:
        assert store.events[-1]["volumes"][0].startswith("https://localhost:")
        url, _ = trio.run(use, store.profile)
        context = ssl.create_default_context(cafile=str(authority))  # theirs alone
        assert urllib.request.urlopen(url, context=context, timeout=30).read() == LARGE
        values = tomllib.loads(store.profile.read_text())
        assert theirs.authority.bundle.strip() in values["authority"]
        store.stop()
        command = [sys.executable, "-m", "warehouse.actors.cluster", "--data", str(store.data), "--json"]
        command += ["--port-base", str(store.port_base), "--config", str(tmp_path / "store-settings.toml")]
        refused = subprocess.run(command, env=environment(), capture_output=True, timeout=120)
        assert refused.returncode == 1
        event = json.loads(refused.stdout)
        assert event["code"] == "certificate_bad"
        assert "is for localhost, and clients reach this server as 127.0.0.1" in event["message"]
        authority.write_text("nonsense")
        command[command.index("--data") + 1] = str(tmp_path / "new")
        command += ["--advertise", "localhost"]
        refused = subprocess.run(command, env=environment(), capture_output=True, timeout=120)
        event = json.loads(refused.stdout)
        assert event["code"] == "certificate_bad"
        assert "certificates in PEM" in event["message"]
        assert not (tmp_path / "new").exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
@pytest.mark.skipif(not shutil.which("unshare") or not shutil.which("ip"), reason="needs unshare and ip")
@pytest.mark.timeout(300)
def test_a_network_shows_no_key_name_or_secret(tmp_path: Path) -> None:
    """A store on an address that is not loopback, with every packet written down."""
    done = subprocess.run(
        [
            "unshare",
            "--net",
            sys.executable,
            str(ROOT / "tests" / "kits" / "captured_store.py"),
            str(tmp_path),
        ],
        env=environment({"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'kits'}"}),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    result = json.loads(done.stdout)
    assert result["url"].startswith("https://192.0.2.7:")
    assert result["bytes"] > 2_000_000
    assert result["seen_in_the_clear"] == ["a canary that travels in the clear"]
