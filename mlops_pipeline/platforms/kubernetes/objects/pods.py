"""Why a pod is not ready yet, and which pods cannot become ready.

The names of states are the kubelet's (`pkg/kubelet/images/types.go`,
`pkg/kubelet/container/sync_result.go`) and the scheduler's. rclone's exit codes:
https://rclone.org/docs/#exit-code.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mlops_pipeline.clients.errors import FailedPodError, PipelineError
from mlops_pipeline.clients.kubernetes import POD, KubernetesApi, Manifest
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.store_access import SECRET

INITIALIZER = "-model-initializer"
"""End of the name of the init container that copies a model with rclone."""
Log = Callable[[str, str], str]
"""Returns the last lines that a container of a pod wrote: (pod, container) → text."""

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONFIGURATION = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_PASSING = (
    "timeout",
    "timed out",
    "deadline exceeded",
    "connection reset",
    "too many requests",
    "service unavailable",
    "unexpected eof",
)
"""Parts of messages of a registry or container runtime. The kubelet's next attempt may succeed."""
_NOT_YET = ("not-ready", "unbound immediate PersistentVolumeClaims", "unreachable")
"""Parts of the scheduler's messages about temporary conditions."""
_PULL = "Failed to pull image"
"""Start of the kubelet's event about an image."""
_IMAGE_ADVICE = "load the image into the cluster, or check that its registry can be reached"
_SHOWN = 2_000
"""Characters of a log that an error contains."""
_DIRECTORY_NOT_FOUND = 3
_KEYS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden", "403")
_KEYLESS_ADVICE = (
    "delete the SeldonDeployment and deploy its manifest with `mlops-pipeline apply`, which adds "
    f"a Secret; or add `envSecretRefName: {SECRET}` to its graph, in a namespace that has that "
    "Secret"
)
_NO_MODEL = "there is no model in"
"""Start of our server's message about a folder without an artifact."""
_SILENT = ("connection refused", "no such host", "i/o timeout", "deadline exceeded")


@dataclass(frozen=True)
class _Trouble:
    """The reason why a pod is not ready."""

    reason: str
    final: bool = False
    """Whether waiting cannot help."""
    advice: str = ""
    container: str = ""
    """The container whose log says more."""
    not_started: bool = False
    """A container waits for its start."""
    exited: bool = False
    """A container has ended, and is restarted."""


def explain_unready(
    pods: Iterable[Manifest],
    events: Iterable[Manifest] = (),
    *,
    log: Log | None = None,
    final_exit_codes: Collection[int] = (),
) -> str:
    """Say why pods are not ready yet; empty if all are ready.

    Pods that are ending do not count. `events` are those of the namespace. `final_exit_codes` are
    the exit codes after which a restart cannot help; a container may exit once with any other.

    Raises:
        FailedPodError: a pod cannot become ready; has the reason, what to do, and, given `log`, the
            container's last lines.
    """
    given, known = list(pods), list(events)
    reasons = []
    for pod, trouble in _troubles(given, known, final_exit_codes):
        name = pod["metadata"]["name"]
        if trouble.final or trouble.exited:
            tail = _tail(log, name, trouble.container)
            if trouble.final or _are_keys_refused(trouble, tail):
                raise FailedPodError(_translate(pod, trouble, tail), uid=_uid(pod))
        reasons.append(f"{name}: {trouble.reason}")
    if not _living(given):
        return "there is no pod yet"
    return "; ".join(reasons)


def replacing_failed(
    api: KubernetesApi, probe: Callable[[], str | None], find: Callable[[], Iterable[Manifest]]
) -> Callable[[], str | None]:
    """Return a probe whose wait only a new pod's failure can end.

    The pods that `find` returns now are replaced, once, if they have failed: what they lacked may
    exist by now, and the kubelet retries only after minutes.
    """
    known = {_uid(pod): pod["metadata"] for pod in find()}

    def describe() -> str | None:
        try:
            return probe()
        except FailedPodError as error:
            failed = known.get(error.uid)
            if failed is None:
                raise
            api.delete(POD, failed["name"], namespace=failed["namespace"], uid=error.uid)
            del known[error.uid]
            return f"replaced it, because {error}"

    return describe


def describe_unready(pods: Iterable[Manifest], events: Iterable[Manifest] = ()) -> str:
    """Say why pods are not ready, also if they cannot become ready; empty if all are ready."""
    given = list(pods)
    if not _living(given):
        return "there is no pod yet"
    found = _troubles(given, list(events), ())
    return "; ".join(f"{pod['metadata']['name']}: {trouble.reason}" for pod, trouble in found)


def last_words(pods: Iterable[Manifest], *, log: Log) -> str:
    """Return the last lines of each container that has started and is not ready."""
    shown = []
    for pod in pods:
        trouble = None if is_ending(pod) else _trouble(pod, (), making_room=False)
        if trouble is not None and trouble.container:
            tail = _tail(log, pod["metadata"]["name"], trouble.container)
            shown.append(_shown(trouble.container, tail))
    return "".join(shown)


def log_reader(api: KubernetesApi, *, namespace: str, lines: int = 15) -> Log:
    """Return a function that reads the last lines of a container; empty if they cannot be read.

    A container that has just started again has written nothing: its run before this one has.
    """

    def read(pod: str, container: str) -> str:
        for previous in (False, True):
            with suppress(PipelineError):  # The error has its reason without the log.
                text = api.log(
                    pod, namespace=namespace, container=container, lines=lines, previous=previous
                )
                if text:
                    return text
        return ""

    return read


def logs(api: KubernetesApi, found: Iterable[Manifest], *, lines: int) -> str:
    """Return the last lines of each container of the pods, in the order of their start."""
    parts = []
    for pod in found:
        metadata, spec = pod["metadata"], pod["spec"]
        read = log_reader(api, namespace=metadata["namespace"], lines=lines)
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            text = read(metadata["name"], container["name"])
            parts.append(f"==> {metadata['name']} {container['name']} <==\n{text}")
    return "\n".join(parts)


def is_ready(pod: Manifest) -> bool:
    """Say whether the pod receives requests."""
    return not is_ending(pod) and _condition(pod, "Ready").get("status") == "True"


def _uid(pod: Manifest) -> str:
    return str(pod["metadata"].get("uid", ""))


def _living(pods: Iterable[Manifest]) -> list[Manifest]:
    return [pod for pod in pods if not is_ending(pod) and not _is_replaced(pod)]


def _is_replaced(pod: Manifest) -> bool:
    """Say whether the pod was evicted: its ReplicaSet creates another one."""
    owners = pod["metadata"].get("ownerReferences") or ()
    failed = (pod.get("status") or {}).get("phase") == "Failed"
    return failed and any(owner.get("kind") == "ReplicaSet" for owner in owners)


def _troubles(
    pods: Sequence[Manifest], events: Sequence[Manifest], final_exit_codes: Collection[int]
) -> Iterator[tuple[Manifest, _Trouble]]:
    making_room = any(is_ending(pod) for pod in pods)
    for pod in _living(pods):
        trouble = _trouble(pod, final_exit_codes, making_room=making_room)
        if trouble is not None:
            yield pod, trouble if trouble.final else _with_event(trouble, pod, events)


def _trouble(
    pod: Manifest, final_exit_codes: Collection[int], *, making_room: bool
) -> _Trouble | None:
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded" or is_ready(pod):
        return None
    if status.get("phase") == "Failed" and status.get("reason"):
        return _Trouble(f"it failed: {status['reason']}: {status.get('message', '')}", True)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _unscheduled(scheduled, making_room=making_room)
    every = [
        trouble
        for part in ("initContainerStatuses", "containerStatuses")
        for container in status.get(part) or ()
        if (trouble := _container(pod, container, final_exit_codes)) is not None
    ]
    if every:
        return next((trouble for trouble in every if trouble.final), every[0])
    return _Trouble(_condition(pod, "Ready").get("message") or "it is being created")


def _unscheduled(condition: Mapping[str, Any], *, making_room: bool) -> _Trouble:
    message = str(condition.get("message", ""))
    waiting = condition.get("reason") != "Unschedulable" or any(w in message for w in _NOT_YET)
    return _Trouble(
        f"no node can run it: {message}",
        final=not waiting and not making_room,
        advice="free resources (`kubectl describe node` shows what is used), or add a worker",
    )


def _container(
    pod: Manifest, status: Mapping[str, Any], final_exit_codes: Collection[int]
) -> _Trouble | None:
    """Return the trouble of one container; None if it is ready, or has completed as it should."""
    if status.get("ready"):
        return None
    name, state = status["name"], status.get("state") or {}
    if waiting := state.get("waiting"):
        return _waiting(pod, status, waiting)
    if ended := state.get("terminated"):
        return _ended(pod, name, ended, final_exit_codes)
    last = (status.get("lastState") or {}).get("terminated")
    if last and (again := _ended(pod, name, last, final_exit_codes)).final:
        return again
    return _Trouble(f"{name} runs but is not ready yet", container=name)


def _waiting(pod: Manifest, status: Mapping[str, Any], waiting: Mapping[str, Any]) -> _Trouble:
    name, reason = status["name"], str(waiting.get("reason", ""))
    message = str(waiting.get("message", ""))
    said = f"{reason}: {message}" if message else reason
    final = not _is_passing(message)
    if reason in _IMAGE:
        image = status.get("image") or "its image"
        return _Trouble(
            f"{name}: the image {image} cannot be pulled ({said})", final, _IMAGE_ADVICE
        )
    if reason in _CONFIGURATION:
        return _Trouble(
            f"{name} cannot be started ({said})", final, "correct what the message names"
        )
    if reason == "CrashLoopBackOff":
        last = (status.get("lastState") or {}).get("terminated") or {}
        how = _how_it_ended(pod, name, last)
        return _Trouble(f"{name} restarts again and again: it {how}", True, container=name)
    return _Trouble(f"{name} has not started yet ({said or 'waiting'})", not_started=True)


def _ended(
    pod: Manifest, name: str, ended: Mapping[str, Any], final_exit_codes: Collection[int]
) -> _Trouble:
    code = ended.get("exitCode")
    final_codes = (_DIRECTORY_NOT_FOUND,) if name.endswith(INITIALIZER) else final_exit_codes
    final = code in final_codes or ended.get("reason") == "OOMKilled" or _lacks_keys(pod, name)
    how = _how_it_ended(pod, name, ended)
    return _Trouble(f"{name} {how}", final, container=name, exited=True)


def _how_it_ended(pod: Manifest, name: str, ended: Mapping[str, Any]) -> str:
    if ended.get("reason") == "OOMKilled":
        limits = (_spec_of(pod, name).get("resources") or {}).get("limits") or {}
        limit = limits.get("memory", "none")
        return f"was killed because it exceeded its memory limit ({limit})"
    return f"exited with {ended.get('exitCode', '?')}"


def _with_event(trouble: _Trouble, pod: Manifest, events: Sequence[Manifest]) -> _Trouble:
    """Add the last warning about a pod if its own status says too little.

    If an image cannot be pulled or a container cannot be created, the kubelet writes an event at
    once, but updates the status only when it retries 10 s later.
    """
    uid = pod["metadata"].get("uid")
    about = [
        e
        for e in events
        if e.get("type") == "Warning" and (e.get("involvedObject") or {}).get("uid") == uid
    ]
    if not about:
        return trouble
    failed = [e for e in about if _is_failure(e)]
    last = max(failed or about, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime")))
    message = str(last.get("message", ""))
    final = bool(trouble.not_started and failed) and not _is_passing(message)
    advice = _IMAGE_ADVICE if message.startswith(_PULL) else "correct what the message names"
    return replace(
        trouble,
        reason=f"{trouble.reason}; {message}",
        final=final,
        advice=advice if final else "",
    )


def _is_failure(event: Manifest) -> bool:
    """Say whether a container could not start, with more detail than `Error: ErrImagePull`."""
    short = str(event.get("message", "")).removeprefix("Error: ") in _IMAGE
    return event.get("reason") == "Failed" and not short


def _is_passing(message: str) -> bool:
    return any(word in message.lower() for word in _PASSING)


def _translate(pod: Manifest, trouble: _Trouble, tail: str) -> str:
    """Say what is wrong, what to do about it, and what the container wrote last."""
    reason, advice = trouble.reason, trouble.advice
    if trouble.container.endswith(INITIALIZER):
        reason, advice = _words_of_rclone(pod, trouble, tail)
    elif uri := _copied_nothing(pod, tail):
        reason = f"{reason}: there is no artifact in what was copied from {uri}"
        advice = "check whether its prefix is empty, publish the artifact and deploy it again"
    told = f"the pod {pod['metadata']['name']} cannot become ready: {reason}"
    return told + (f"; {advice}" if advice else "") + _shown(trouble.container, tail)


def _shown(container: str, tail: str) -> str:
    return f"\n--- last lines of {container} ---\n{tail}" if tail else ""


def _are_keys_refused(trouble: _Trouble, tail: str) -> bool:
    """Say whether the store refused rclone's keys: a retry with the same keys does not help."""
    return trouble.container.endswith(INITIALIZER) and any(word in tail for word in _KEYS)


def _words_of_rclone(pod: Manifest, trouble: _Trouble, tail: str) -> tuple[str, str]:
    spec = _spec_of(pod, trouble.container)
    uri = _uri_of(spec) or "its model"
    secrets = [s["secretRef"]["name"] for s in spec.get("envFrom") or () if "secretRef" in s]
    if _lacks_keys(pod, trouble.container):
        return f"its manifest names no Secret with the keys for {uri}", _KEYLESS_ADVICE
    secret = ", ".join(secrets) or "none"
    # The log of a container that has just restarted is still empty; exit code 3 means the same
    # (https://rclone.org/docs/#exit-code).
    if "directory not found" in tail or trouble.reason.endswith(f" {_DIRECTORY_NOT_FOUND}"):
        bucket = uri.removeprefix("s3://").partition("/")[0]
        reason = f"the bucket {bucket} of {uri} does not exist"
        return reason, "create it, or correct modelUri"
    if any(word in tail for word in _KEYS):
        reason = f"the object store refuses the keys in the Secret {secret} for {uri}"
        return reason, "write the correct keys with `mlops-pipeline up object_store`"
    if any(word in tail for word in _SILENT):
        reason = f"the object store that the Secret {secret} names does not answer"
        return reason, "see `mlops-pipeline status`"
    return f"could not copy {uri}: {trouble.reason}", "see rclone's message"


def _copied_nothing(pod: Manifest, tail: str) -> str | None:
    """Return the modelUri if the server found no artifact: rclone does not report that."""
    if _NO_MODEL not in tail:
        return None
    for container in (pod.get("spec") or {}).get("initContainers") or ():
        if container["name"].endswith(INITIALIZER):
            return _uri_of(container)
    return None


def _uri_of(initializer: Mapping[str, Any]) -> str:
    return str(next(iter(initializer.get("args") or ()), ""))


def _lacks_keys(pod: Manifest, container: str) -> bool:
    """Say whether the container copies a model from S3 without a Secret: a restart cannot help."""
    spec = _spec_of(pod, container)
    copies = container.endswith(INITIALIZER) and _uri_of(spec).startswith("s3://")
    return copies and not spec.get("envFrom") and not spec.get("env")


def _spec_of(pod: Manifest, name: str) -> Mapping[str, Any]:
    spec = pod.get("spec") or {}
    every = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    found: Mapping[str, Any] = next((c for c in every if c["name"] == name), {})
    return found


def _tail(log: Log | None, pod: str, container: str) -> str:
    return log(pod, container).strip()[-_SHOWN:] if log is not None and container else ""


def _condition(pod: Manifest, kind: str) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    found: Mapping[str, Any] = next((c for c in conditions if c.get("type") == kind), {})
    return found
