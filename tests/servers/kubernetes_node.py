"""What stands in for a kubelet: a node of the cluster, whose pods are processes of this machine."""

import base64
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.servers.authority import Authority
from tests.servers.process import environ, free_port

NAME = "stand-in"
_OWN = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount"]
_MERGE = {"Content-Type": "application/merge-patch+json"}
# The words after the script: directories and where they are mounted, two by two, up to "--", and the command.
_CONTAINER = """
mount -t tmpfs tmpfs /run
while [ "$1" != -- ]; do mkdir -p "$2" && mount --bind "$1" "$2" && shift 2; done
shift
cd / && exec "$@"
"""


class _Pod:
    def __init__(self, found: Mapping[str, Any], place: Path) -> None:
        self.path = f"/api/v1/namespaces/{found['metadata']['namespace']}/pods/{found['metadata']['name']}"
        self.home = place / "pods" / found["metadata"]["uid"]
        self.log = self.home / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.told = ""
        self.kill_after = 0


class StandInNode:
    """Looks at its pods again and again, and does what they ask for."""

    def __init__(self, url: str, token: str, authority: Authority, place: Path) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self.api = httpx.Client(base_url=url, verify=authority.context(), headers=headers, trust_env=False, timeout=30)
        self.authority, self.place = authority, place
        self.port = free_port()
        self.pods: dict[str, _Pod] = {}
        self._over = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The node, until the end of the block; its pods end with it."""
        self._register()
        server = ThreadingHTTPServer(("127.0.0.1", self.port), self._reader())
        host = self.authority.host("localhost", NAME)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(host.certificate, host.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=self._work)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            server.shutdown()
            for thread in threads:
                thread.join()
            server.server_close()
            for pod in self.pods.values():
                if pod.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pod.process.pid, signal.SIGKILL)
                    pod.process.wait()
            self.api.close()

    def _register(self) -> None:
        self.api.post("/api/v1/nodes", json={"metadata": {"name": NAME}}).raise_for_status()
        amounts = {"cpu": "16", "memory": "64Gi", "pods": "100", "ephemeral-storage": "100Gi"}
        status = {
            "capacity": amounts, "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "StandIn", "message": ""}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        }  # fmt: skip
        self.api.patch(f"/api/v1/nodes/{NAME}/status", json={"status": status}, headers=_MERGE).raise_for_status()

    def _work(self) -> None:
        while not self._over.wait(0.1):
            listed = self.api.get("/api/v1/pods", params={"fieldSelector": f"spec.nodeName={NAME}"})
            for found in listed.json()["items"]:
                pod = self.pods.setdefault(found["metadata"]["uid"], _Pod(found, self.place))
                self._look_after(pod, found)

    def _look_after(self, pod: _Pod, found: Mapping[str, Any]) -> None:
        if "deletionTimestamp" in found["metadata"]:
            self._end(pod, found["metadata"].get("deletionGracePeriodSeconds") or 0)
        elif pod.process is None and not pod.told:
            self._start(pod, found)
        elif pod.process is not None and (code := pod.process.poll()) is not None:
            self._tell(pod, "Succeeded" if code == 0 else "Failed", {"terminated": {"exitCode": abs(code)}})

    def _start(self, pod: _Pod, found: Mapping[str, Any]) -> None:
        spec = found["spec"]
        (container,) = spec["containers"]
        volumes = {
            volume["name"]: self._volume(pod, found["metadata"]["namespace"], volume) for volume in spec["volumes"]
        }
        if None in volumes.values():
            self._tell(pod, "Pending", {"waiting": {"reason": "ContainerCreating"}})
            pod.told = ""
            return
        mounts = [
            word for each in container["volumeMounts"] for word in (str(volumes[each["name"]]), each["mountPath"])
        ]
        env = environ(pod.home) | {each["name"]: each.get("value", "") for each in container.get("env", [])}
        with pod.log.open("ab") as log:
            pod.process = subprocess.Popen(
                [*_OWN, "sh", "-euc", _CONTAINER, "sh", *mounts, "--", *container["command"]],
                env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._tell(pod, "Running", {"running": {}})

    def _volume(self, pod: _Pod, namespace: str, volume: dict[str, Any]) -> Path | None:
        """Its directory; None while what it is filled from is not there."""
        target: Path = pod.home / volume["name"]
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        kinds = {"secret": ("secrets", "secretName", "data"), "configMap": ("configmaps", "name", "binaryData")}
        for kind, (plural, named, field) in kinds.items():
            if kind not in volume:
                continue
            answer = self.api.get(f"/api/v1/namespaces/{namespace}/{plural}/{volume[kind][named]}")
            if answer.status_code == 404:
                return None
            for name, data in answer.raise_for_status().json()[field].items():
                (target / name).write_bytes(base64.b64decode(data))
                (target / name).chmod(volume[kind].get("defaultMode", 0o644))
        return target

    def _end(self, pod: _Pod, grace_s: int) -> None:
        """First the request; ten looks are a second."""
        if pod.process is not None and pod.process.poll() is None:
            if pod.kill_after == 0:
                pod.process.terminate()
            pod.kill_after += 1
            if pod.kill_after <= 10 * grace_s:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pod.process.pid, signal.SIGKILL)
            pod.process.wait()
        self.api.request("DELETE", pod.path, json={"gracePeriodSeconds": 0})

    def _tell(self, pod: _Pod, phase: str, state: Mapping[str, Any]) -> None:
        if pod.told == phase:
            return
        pod.told = phase
        told = {
            "name": "pilot",
            "image": "",
            "imageID": "",
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        status = {"phase": phase, "containerStatuses": [told]}
        self.api.patch(f"{pod.path}/status", json={"status": status}, headers=_MERGE)

    def _reader(self) -> type[BaseHTTPRequestHandler]:
        """Serves the pods' logs to the API server, as a kubelet does."""
        node = self

        class Reader(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # /containerLogs/NAMESPACE/POD/CONTAINER
                parts = self.path.partition("?")[0].split("/")
                path = f"/api/v1/namespaces/{parts[2]}/pods/{parts[3]}"
                logs = [pod.log for pod in node.pods.values() if pod.path == path and pod.log.exists()]
                self.send_response(200 if logs else 404)
                self.end_headers()
                if logs:
                    self.wfile.write(logs[-1].read_bytes())

            def log_message(self, *args: object) -> None:
                """Nobody reads it."""

        return Reader
