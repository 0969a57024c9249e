"""Pilots as jobs of a Kubernetes cluster.

A pilot is a Job, a Secret with its launch file, and a ConfigMap with the pilot itself, which all pilots share. Names
follow from the pilot, so the API itself refuses a second one. `external_id` is the Job's name.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec

from spinor.errors import SpinorError
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementRefused, ElementSettings, PilotLaunch, Submitted
from spinor.pilots.plugins.files import OUTPUT_BYTES, together
from spinor.pilots.plugins.kubernetes_api import Access, Namespace, connected
from spinor.pilots.plugins.options import PilotOptions, options_of, secret_file, wrong

_BEGUN = "spinor.io/begun"
_LOST = timedelta(minutes=10)
_PLACE = "/run/spinor"
_CONTAINER = "pilot"
_LARGEST_BUNDLE = 900_000  # Of a ConfigMap's mebibyte, in which it is base64 only on its way.
_NAME = re.compile(r"spinor-[0-9a-f]{8}-[0-9]{1,19}-[0-9a-f]{12}")
# The mounted file belongs to the cluster; the pilot deletes its own copy when it has enrolled.
_START = f"""set -eu
umask 077
cd {_PLACE}/work
cp {_PLACE}/launch/launch.json launch.json
chmod 600 launch.json
mkdir -p work
exec "$0" -I -B {_PLACE}/pilot/"$1" launch.json --directory work
"""
_SECURITY = {
    "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip
# A container that waits for one of these will not start by itself.
_HOPELESS = ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerError")


class Options(PilotOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `token_file` (with `server`), `kubeconfig` and `in_cluster` says who asks."""

    image: str  # With a Python from 3.9 up.
    server: str = ""
    namespace: str = "default"
    token_file: str = ""  # Of a service account, below the place of secrets; read again for each round.
    ca_file: str = ""  # Below the place of secrets; otherwise the system's authorities.
    kubeconfig: str = ""  # Below the place of secrets.
    in_cluster: bool = False  # The worker is itself a pod of the cluster.
    python: str = "python3"
    service_account: str = ""  # Of the pods; none of its tokens is mounted.
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: list[dict[str, Any]] = msgspec.field(default_factory=list)
    priority_class: str = ""
    runtime_class: str = ""
    image_pull_secrets: list[str] = msgspec.field(default_factory=list)
    disk_bytes: int = 0  # Ephemeral storage to ask for.
    security_context: dict[str, Any] = msgspec.field(default_factory=lambda: dict(_SECURITY))
    keep_s: int = 3600  # How long ended jobs stay, for their output.
    grace_s: int = 20


class KubernetesComputing:
    """A namespace of a cluster."""

    name: ClassVar[str] = "kubernetes"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options = options_of(element, Options)
        ways = [bool(options.token_file), bool(options.kubeconfig), options.in_cluster]
        if ways.count(True) != 1:
            raise wrong(element, "exactly one of token_file, kubeconfig and in_cluster is needed")
        if bool(options.server) != bool(options.token_file):
            raise wrong(element, "server is needed with token_file, and comes with kubeconfig and in_cluster")
        if options.server and not options.server.startswith("https://"):
            raise wrong(element, "server must begin with https://")
        self._token = secret_file(element, "token_file", options.token_file) if options.token_file else None
        self._kubeconfig = secret_file(element, "kubeconfig", options.kubeconfig) if options.kubeconfig else None
        self._ca = secret_file(element, "ca_file", options.ca_file, private=False) if options.ca_file else None
        self._hopeless: dict[str, str] = {}  # Pilots that could not start and were removed, and why.
        self.service = hashlib.sha256(element.url.encode()).hexdigest()[:8]

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        if not pilots:
            return []
        async with self._cluster() as cluster:
            shared = await self._share(cluster, pilots[0])
            told = await together(*(self._submit(cluster, each, shared) for each in pilots), return_exceptions=True)
        for error in told:
            if isinstance(error, BaseException) and not isinstance(error, ElementRefused):
                raise error
        if all(isinstance(each, ElementRefused) for each in told):
            raise told[0]  # That is about us, or about the namespace as a whole.
        return [
            Submitted(pilot_id=pilot.pilot_id, error=each.message) if isinstance(each, ElementRefused) else each
            for pilot, each in zip(pilots, told, strict=True)
        ]

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        if not pilot_ids:
            return {}
        async with self._cluster() as cluster:
            numbers = ",".join(str(each) for each in pilot_ids)
            jobs = await cluster.every(f"{cluster.batch}/jobs", f"{self._labels}, spinor.io/pilot in ({numbers})")
        # The newest comes last and stays: numbers begin anew when a service is installed anew.
        jobs.sort(key=lambda job: job["metadata"]["creationTimestamp"])
        return {int(job["metadata"]["labels"]["spinor.io/pilot"]): job["metadata"]["name"] for job in jobs}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        if not external_ids:
            return {}
        async with self._cluster() as cluster:
            jobs, pods = await self._jobs_and_pods(cluster)
            states = {each: state_of(jobs.get(each), pods.get(each)) for each in external_ids}
            for each, state in states.items():
                if state is ElementState.FAILED and not _ending(jobs[each]):
                    self._hopeless[each] = _said(pods[each])
            # What will not start holds room, and what was not begun long ago has lost its submitter.
            useless = {*(self._hopeless.keys() & jobs.keys()), *(name for name, job in jobs.items() if _is_lost(job))}
            await together(*(cluster.delete(f"{cluster.batch}/jobs/{each}") for each in useless))
            ended = [each for each, state in states.items() if state in (ElementState.DONE, ElementState.FAILED)]
            # Whoever has ended needs no secret, and its job stays for a while.
            await together(*(cluster.delete(f"{cluster.core}/secrets/{each}") for each in ended))
        return states

    async def cancel(self, external_ids: Sequence[str]) -> None:
        async with self._cluster() as cluster:
            jobs = {job["metadata"]["name"]: job for job in await cluster.every(f"{cluster.batch}/jobs", self._labels)}
            ours = [each for each in external_ids if each in jobs and not _ending(jobs[each])]
            # In the foreground: the Job stays until its pod has gone.
            await together(*(cluster.delete(f"{cluster.batch}/jobs/{each}", "Foreground") for each in ours))

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        """The pod's log, in which both streams are, and what the cluster says of the pod."""
        ours = [each for each in external_ids if self._is_ours(each)]
        if not ours:
            return {}
        async with self._cluster() as cluster:
            _, pods = await self._jobs_and_pods(cluster)
            there = [each for each in ours if each in pods]
            texts = await together(*(self._words(cluster, pods[each]) for each in there))
        gone = {each: self._hopeless[each] for each in ours if each in self._hopeless}
        return gone | dict(zip(there, texts, strict=True))

    # ------------------------------------------------------------------------------------------------------ details

    def _cluster(self) -> Any:
        options = self.options
        if options.in_cluster:
            access = Access.in_cluster()
        elif self._kubeconfig is not None:
            access = Access.of_kubeconfig(self._kubeconfig)
        else:
            access = Access(options.server, self._ca.read_text() if self._ca else "", self._token)
        return connected(access, options.namespace)

    @property
    def _labels(self) -> str:
        return f"app.kubernetes.io/managed-by=spinor, spinor.io/service={self.service}"

    def _is_ours(self, external_id: str) -> bool:
        return bool(_NAME.fullmatch(external_id)) and external_id.startswith(f"spinor-{self.service}-")

    async def _share(self, cluster: Namespace, pilot: PilotLaunch) -> str:
        """The ConfigMap with the pilot itself, named after its content."""
        data = await asyncio.to_thread(pilot.bundle.read_bytes)
        if len(data) > _LARGEST_BUNDLE:
            raise BadOptions(f"The pilot has {len(data):,} bytes, and a ConfigMap holds {_LARGEST_BUNDLE:,} at most.")
        name = f"spinor-pilot-{hashlib.sha256(pilot.bundle.name.encode() + data).hexdigest()[:16]}"
        labels = {"app.kubernetes.io/managed-by": "spinor", "spinor.io/service": self.service}
        content = {pilot.bundle.name: base64.b64encode(data).decode()}
        await cluster.create(
            f"{cluster.core}/configmaps",
            {"metadata": {"name": name, "labels": labels}, "binaryData": content, "immutable": True},
        )
        return name

    async def _submit(self, cluster: Namespace, pilot: PilotLaunch, shared: str) -> Submitted:
        """The Job comes first, since the Secret is to go with it; without one it would hold room for nothing.

        So it is made suspended, and begun when the Secret is there. Whoever comes after one that was cut off goes on.
        """
        mark = hashlib.sha256(f"mark {pilot.pilot_id} {pilot.secret}".encode()).hexdigest()[:12]
        name = f"spinor-{self.service}-{pilot.pilot_id}-{mark}"
        path = f"{cluster.batch}/jobs/{name}"
        job = await cluster.create(f"{cluster.batch}/jobs", self._job(name, pilot, shared)) or await cluster.get(path)
        gone = Submitted(pilot_id=pilot.pilot_id, error="its job was removed in the moment in which it was made")
        if job is None:
            return gone
        if not _is_begun(job) and not _ending(job) and "deletionTimestamp" not in job["metadata"]:
            try:
                await self._give_secret(cluster, job, pilot)
            except ElementRefused:
                with suppress(SpinorError):  # Otherwise it is removed later: see `status`.
                    await cluster.delete(path)
                raise
            if not await cluster.patch(
                path, {"metadata": {"annotations": {_BEGUN: "true"}}, "spec": {"suspend": False}}
            ):
                return gone
        return Submitted(pilot_id=pilot.pilot_id, external_id=name)

    async def _give_secret(self, cluster: Namespace, job: Mapping[str, Any], pilot: PilotLaunch) -> None:
        name, labels = job["metadata"]["name"], job["metadata"]["labels"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        metadata = {"name": name, "labels": labels, "ownerReferences": [owner]}
        launch = {"launch.json": base64.b64encode(pilot.launch_file()).decode()}
        await cluster.create(
            f"{cluster.core}/secrets", {"metadata": metadata, "type": "Opaque", "data": launch, "immutable": True}
        )

    def _job(self, name: str, pilot: PilotLaunch, shared: str) -> dict[str, Any]:
        options = self.options
        labels = {
            "app.kubernetes.io/managed-by": "spinor", "app.kubernetes.io/name": "spinor-pilot",
            "spinor.io/service": self.service, "spinor.io/pilot": str(pilot.pilot_id),
        }  # fmt: skip
        amounts = {"cpu": str(pilot.cores), "memory": str(pilot.memory_bytes)}
        if options.disk_bytes:
            amounts["ephemeral-storage"] = str(options.disk_bytes)
        container = {
            "name": _CONTAINER, "image": options.image, "resources": {"requests": amounts, "limits": amounts},
            "command": ["/bin/sh", "-c", _START, options.python, pilot.bundle.name],
            "env": [{"name": key, "value": value} for key, value in options.environment.items()],
            "securityContext": options.security_context,
            "volumeMounts": [
                {"name": each, "mountPath": f"{_PLACE}/{each}", "readOnly": each != "work"}
                for each in ("launch", "pilot", "work")
            ],
        }  # fmt: skip
        pod: dict[str, Any] = {
            "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container],
            "terminationGracePeriodSeconds": options.grace_s, "activeDeadlineSeconds": pilot.wall_s + 300,
            "enableServiceLinks": False,
            "securityContext": {"fsGroup": options.security_context.get("runAsUser", 0)},
            "volumes": [
                {"name": "launch", "secret": {"secretName": name, "defaultMode": 0o440}},
                {"name": "pilot", "configMap": {"name": shared}},
                {"name": "work", "emptyDir": {}},
            ],
        }  # fmt: skip
        wished = {
            "serviceAccountName": options.service_account, "nodeSelector": options.node_selector,
            "tolerations": options.tolerations, "priorityClassName": options.priority_class,
            "runtimeClassName": options.runtime_class,
            "imagePullSecrets": [{"name": each} for each in options.image_pull_secrets],
        }  # fmt: skip
        pod |= {key: value for key, value in wished.items() if value}
        return {
            "metadata": {"name": name, "labels": labels},
            "spec": {
                # A pilot is started once: its secret works once.
                "suspend": True, "backoffLimit": 0, "ttlSecondsAfterFinished": options.keep_s,
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }  # fmt: skip

    async def _jobs_and_pods(self, cluster: Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both by the name of the job."""
        jobs, pods = await together(
            cluster.every(f"{cluster.batch}/jobs", self._labels), cluster.every(f"{cluster.core}/pods", self._labels)
        )
        return (
            {job["metadata"]["name"]: job for job in jobs},
            {owner["name"]: pod for pod in pods for owner in pod["metadata"].get("ownerReferences", [])},
        )

    async def _words(self, cluster: Namespace, pod: Mapping[str, Any]) -> str:
        path = f"{cluster.core}/pods/{pod['metadata']['name']}/log"
        text = await cluster.text(path, container=_CONTAINER, tailLines="2000")
        return text[-OUTPUT_BYTES:] + _said(pod)


def state_of(job: Mapping[str, Any] | None, pod: Mapping[str, Any] | None) -> ElementState:
    """What a Job and its pod, where there is one, say."""
    if job is None:
        return ElementState.VANISHED if pod is None else ElementState.RUNNING
    ending = _ending(job)
    if ending:
        return ElementState.DONE if ending == "Complete" else ElementState.FAILED
    if pod is not None and pod["status"].get("phase") == "Running":
        return ElementState.RUNNING
    if pod is not None and _waiting(pod).get("reason") in _HOPELESS:
        return ElementState.FAILED
    return ElementState.WAITING


def _said(pod: Mapping[str, Any]) -> str:
    """What the cluster says of a pod."""
    status, waiting = pod["status"], _waiting(pod)
    said = [status.get("reason"), status.get("message"), waiting.get("reason"), waiting.get("message")]
    words = ": ".join(each for each in said if each)
    return f"Kubernetes says: {words}\n" if words else ""


def _is_begun(job: Mapping[str, Any]) -> bool:
    """Whether it has all that it needs. What the cluster suspends after that is the cluster's affair."""
    return _BEGUN in job["metadata"].get("annotations", {})


def _is_lost(job: Mapping[str, Any]) -> bool:
    made_at = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    return not _is_begun(job) and datetime.now(UTC) - made_at > _LOST


def _ending(job: Mapping[str, Any]) -> str:
    """Complete or Failed, when it has ended."""
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def _waiting(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Why the container does not run yet."""
    for container in pod["status"].get("containerStatuses") or []:
        waiting: Mapping[str, Any] | None = container.get("state", {}).get("waiting")
        if waiting:
            return waiting
    return {}
