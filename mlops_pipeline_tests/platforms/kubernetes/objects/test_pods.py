from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.kubernetes import POD
from mlops_pipeline.platforms.kubernetes.objects.pods import (
    describe_unready,
    explain_unready,
    is_ready,
    last_words,
    log_reader,
    logs,
    replacing_failed,
)
from mlops_pipeline.serving.artifact import ArtifactError
from mlops_pipeline.serving.bare import describe
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes

URI = "s3://models/iris/0123"
INITIALIZER = "classifier-model-initializer"


def pod(
    *statuses: Mapping[str, Any],
    init: Sequence[Mapping[str, Any]] = (),
    ready: bool = False,
    name: str = "iris-0",
    metadata: Mapping[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "models", "uid": f"uid-{name}", **(metadata or {})},
        "spec": {
            "initContainers": [
                {
                    "name": INITIALIZER,
                    "args": [URI, "/mnt/models"],
                    "envFrom": [{"secretRef": {"name": "seldon-rclone-secret"}}],
                }
            ],
            "containers": [
                {"name": "classifier", "resources": {"limits": {"memory": "1Gi"}}},
            ],
        },
        "status": {
            "phase": "Pending",
            "conditions": [condition, *status.pop("conditions", [])],
            "initContainerStatuses": list(init),
            "containerStatuses": list(statuses),
            **status,
        },
    }


def waiting(
    reason: str, message: str = "", name: str = "classifier", **more: Any
) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    return {"name": name, "ready": False, "image": "serving:1", "state": state, **more}


def ended(code: int, reason: str = "Error", name: str = "classifier") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    return {"name": name, "ready": False, "state": state}


def running(*, ready: bool = False, name: str = "classifier", **more: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "state": {"running": {}}, **more}


def crashed(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"lastState": {"terminated": {"exitCode": code, "reason": reason}}}


def unscheduled(message: str, reason: str = "Unschedulable") -> dict[str, Any]:
    return {
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        ]
    }


def test_nothing_is_said_of_pods_that_are_ready_or_done() -> None:
    assert explain_unready([pod(running(ready=True), ready=True)]) == ""
    assert explain_unready([pod(ended(0, "Completed"), phase="Succeeded")]) == ""


def test_no_pod_is_no_readiness() -> None:
    gone = pod(running(ready=True), ready=True, metadata={"deletionTimestamp": "now"})
    assert explain_unready([]) == "there is no pod yet"
    assert explain_unready([gone]) == "there is no pod yet"
    assert describe_unready([gone]) == "there is no pod yet"
    assert not is_ready(gone)


def test_what_is_on_its_way_is_named_with_its_pod() -> None:
    waits = waiting("PodInitializing")
    assert explain_unready([pod(waits, init=[running(name=INITIALIZER)])]) == (
        f"iris-0: {INITIALIZER} runs but is not ready yet"
    )
    assert explain_unready([pod(waits)]) == (
        "iris-0: classifier has not started yet (PodInitializing)"
    )
    assert explain_unready([pod(running())]) == "iris-0: classifier runs but is not ready yet"
    assert explain_unready([pod()]) == "iris-0: it is being created"


def event(message: str, second: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "type": "Warning",
        "reason": "FailedMount",
        "involvedObject": {"uid": "uid-iris-0"},
        "message": message,
        "lastTimestamp": f"2026-01-01T00:00:{second:02}Z",
        **more,
    }


def test_the_last_warning_about_the_pod_is_told_too() -> None:
    events = [
        event("no such volume", 2),
        event("an older one", 1),
        event("another pod's", 3, involvedObject={"uid": "other"}),
        event("nothing wrong", 4, type="Normal"),
    ]
    said = explain_unready([pod(waiting("ContainerCreating"))], events)
    assert said.endswith("(ContainerCreating); no such volume")


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('Failed to pull image "serving:1": no such host', "load the image into"),
        ('Error: secret "keys" not found', "correct what the message names"),
    ],
)
def test_what_the_kubelet_tells_before_its_status_does_ends_the_wait(
    message: str, advice: str
) -> None:
    events = [event(message, 1, reason="Failed"), event("Error: ErrImagePull", 2, reason="Failed")]
    with pytest.raises(FatalStateError) as error:
        explain_unready([pod(waiting("PodInitializing"))], events)
    assert message in str(error.value)
    assert advice in str(error.value)
    busy = [event('Failed to pull image "serving:1": i/o timeout', reason="Failed")]
    assert "i/o timeout" in explain_unready([pod(waiting("PodInitializing"))], busy)
    assert "runs but is not ready" in explain_unready([pod(running())], events)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_had_ends_the_wait(reason: str) -> None:
    with pytest.raises(FatalStateError, match="the image serving:1 cannot be pulled") as error:
        explain_unready([pod(waiting(reason, "no such host"))])
    assert reason in str(error.value)
    assert "no such host" in str(error.value)
    assert "load the image into the cluster" in str(error.value)


def test_a_registry_that_is_busy_is_waited_for() -> None:
    said = explain_unready([pod(waiting("ErrImagePull", "429 Too Many Requests"))])
    assert "429 Too Many Requests" in said


def test_a_missing_secret_ends_the_wait() -> None:
    status = waiting("CreateContainerConfigError", 'secret "keys" not found', name=INITIALIZER)
    with pytest.raises(FatalStateError, match='secret "keys" not found'):
        explain_unready([pod(waiting("PodInitializing"), init=[status])])


def test_a_crash_loop_ends_the_wait_with_the_last_lines() -> None:
    status = waiting("CrashLoopBackOff", "back-off 10s", **crashed(4))
    with pytest.raises(FatalStateError) as error:
        explain_unready([pod(status)], log=lambda name, container: f"{name} {container}: no\n")
    assert str(error.value) == (
        "the pod iris-0 cannot become ready: classifier restarts again and again: it exited with "
        "4\n"
        "--- last lines of classifier ---\niris-0 classifier: no"
    )


def test_one_exit_may_happen_and_a_final_one_may_not() -> None:
    assert explain_unready([pod(ended(1))]) == "iris-0: classifier exited with 1"
    assert explain_unready([pod(running(**crashed(1)))]).endswith("is not ready yet")
    for status in (ended(4), running(**crashed(4))):
        with pytest.raises(FatalStateError, match="classifier exited with 4"):
            explain_unready([pod(status)], final_exit_codes=(2, 3, 4))


def test_too_little_memory_ends_the_wait_and_names_the_limit() -> None:
    for status in (
        ended(137, "OOMKilled"),
        running(**crashed(137, "OOMKilled")),
        waiting("CrashLoopBackOff", **crashed(137, "OOMKilled")),
    ):
        with pytest.raises(FatalStateError, match=r"exceeded its memory limit \(1Gi\)"):
            explain_unready([pod(status)])


def test_what_is_final_is_found_behind_what_is_not() -> None:
    failing = waiting("ErrImagePull", "not found", name="tfserving")
    with pytest.raises(FatalStateError, match="tfserving"):
        explain_unready([pod(running(), failing)])
    with pytest.raises(FatalStateError, match="iris-1"):
        explain_unready([pod(running()), pod(failing, name="iris-1")])


def test_no_room_ends_the_wait_with_the_schedulers_words() -> None:
    full = pod(**unscheduled("0/1 nodes are available: 1 Insufficient cpu."))
    with pytest.raises(FatalStateError, match=r"no node can run it: .* 1 Insufficient cpu\.; free"):
        explain_unready([full])


def test_room_that_is_being_made_is_waited_for() -> None:
    full = pod(**unscheduled("1 Insufficient cpu."))
    ending = pod(name="old", metadata={"deletionTimestamp": "now"})
    assert explain_unready([full, ending]) == "iris-0: no node can run it: 1 Insufficient cpu."
    for message in (
        "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
        "pod has unbound immediate PersistentVolumeClaims",
    ):
        assert message in explain_unready([pod(**unscheduled(message))])
    assert "gates" in explain_unready([pod(**unscheduled("gates", "SchedulingGated"))])


def test_an_evicted_pod_ends_the_wait() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="low on memory")
    with pytest.raises(FatalStateError, match="it failed: Evicted: low on memory"):
        explain_unready([evicted])


def test_an_evicted_pod_that_is_replaced_does_not_count() -> None:
    owned = {"ownerReferences": [{"kind": "ReplicaSet"}]}
    evicted = pod(phase="Failed", reason="Evicted", metadata=owned, name="evicted")
    assert explain_unready([evicted, pod(running(ready=True), ready=True)]) == ""
    assert explain_unready([evicted]) == "there is no pod yet"


@pytest.mark.parametrize(
    ("log", "code", "expected", "advice"),
    [
        ("Failed to copy: directory not found", 3, f"the bucket models of {URI}", "create it"),
        ("AccessDenied: 403", 1, "refuses the keys in the Secret seldon-rclone-secret", "up obj"),
        ("InvalidAccessKeyId", 1, "refuses the keys in the Secret seldon-rclone-secret", "up obj"),
        ("dial tcp: connection refused", 1, "seldon-rclone-secret names does not answer", "status"),
        ("Segmentation fault", 1, f"could not copy {URI}", "rclone's message"),
    ],
)
def test_rclones_errors_are_put_into_words(log: str, code: int, expected: str, advice: str) -> None:
    status = waiting("CrashLoopBackOff", name=INITIALIZER, **crashed(code))
    with pytest.raises(FatalStateError) as error:
        explain_unready([pod(waiting("PodInitializing"), init=[status])], log=lambda *_: log)
    assert expected in str(error.value)
    assert advice in str(error.value)
    assert str(error.value).endswith(f"--- last lines of {INITIALIZER} ---\n{log}")


def test_a_missing_bucket_is_named_while_the_log_is_empty() -> None:
    status = waiting("CrashLoopBackOff", name=INITIALIZER, **crashed(3))
    with pytest.raises(FatalStateError, match=r"the bucket models of .* does not exist"):
        explain_unready([pod(waiting("PodInitializing"), init=[status])], log=lambda *_: "")


def test_a_missing_bucket_ends_the_wait_at_once_and_a_silent_store_does_not() -> None:
    def first(code: int) -> list[dict[str, Any]]:
        return [pod(waiting("PodInitializing"), init=[ended(code, name=INITIALIZER)])]

    with pytest.raises(FatalStateError):
        explain_unready(first(3))
    assert explain_unready(first(1)) == f"iris-0: {INITIALIZER} exited with 1"


def test_refused_keys_end_the_wait_at_once() -> None:
    given = [pod(waiting("PodInitializing"), init=[ended(1, name=INITIALIZER)])]
    with pytest.raises(FatalStateError, match="refuses the keys"):
        explain_unready(given, log=lambda *_: "api error Forbidden: Forbidden")
    assert explain_unready(given, log=lambda *_: "connection refused") != ""
    assert explain_unready([pod(ended(1))], log=lambda *_: "Forbidden") != ""


def test_a_manifest_without_a_secret_is_named_at_once_with_what_to_add() -> None:
    """As somebody applies it with kubectl: the operator gives its initializer no keys."""
    found = pod(waiting("PodInitializing"), init=[ended(1, name=INITIALIZER)])
    del found["spec"]["initContainers"][0]["envFrom"]
    with pytest.raises(FatalStateError) as error:
        explain_unready([found])
    said = str(error.value)
    assert f"its manifest names no Secret with the keys for {URI}" in said
    assert "`mlops-pipeline apply`" in said
    assert "`envSecretRefName: seldon-rclone-secret`" in said
    found["spec"]["initContainers"][0]["args"][0] = "gs://models/iris"
    assert explain_unready([found]) == f"iris-0: {INITIALIZER} exited with 1"


def test_the_last_words_are_those_of_who_is_not_ready() -> None:
    copying = pod(waiting("PodInitializing"), init=[running(name=INITIALIZER)])
    ending = pod(running(), name="old", metadata={"deletionTimestamp": "now"})
    given = [copying, ending, pod(running(ready=True), ready=True), pod(waiting("PodInitializing"))]
    said = last_words(given, log=lambda name, container: f"{name} is slow\n")
    assert said == f"\n--- last lines of {INITIALIZER} ---\niris-0 is slow"


def test_a_prefix_from_which_nothing_was_copied_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as said:
        describe(tmp_path)
    log = f"{said.value}\n"
    with pytest.raises(
        FatalStateError, match=f"there is no artifact in what was copied from {URI}"
    ):
        explain_unready([pod(ended(3))], log=lambda *_: log, final_exit_codes=(3,))


def test_a_description_never_raises() -> None:
    assert "ErrImagePull" in describe_unready([pod(waiting("ErrImagePull", "not found"))])
    assert describe_unready([pod(running(ready=True), ready=True)]) == ""


def test_logs_are_those_of_each_container_in_their_order() -> None:
    api = FakeKubernetes([pod()])
    api.logs["models", "iris-0"] = "one\ntwo\nthree\n"
    assert logs(api, [pod()], lines=2) == (
        f"==> iris-0 {INITIALIZER} <==\ntwo\nthree\n\n==> iris-0 classifier <==\ntwo\nthree\n"
    )


def test_a_container_that_has_just_started_again_is_explained_by_its_former_log() -> None:
    api = FakeKubernetes([pod()])
    api.previous_logs["models", "iris-0"] = "MLOPS_DRAIN_SECONDS must be a number\n"
    read = log_reader(api, namespace="models")
    assert read("iris-0", "classifier") == "MLOPS_DRAIN_SECONDS must be a number\n"
    api.logs["models", "iris-0"] = "Ready\n"
    assert read("iris-0", "classifier") == "Ready\n"


def test_a_log_that_cannot_be_read_hides_no_reason() -> None:
    api = FakeKubernetes([pod()])
    api.fail(UnavailableError("gone"), verbs=("log",))
    status = waiting("CrashLoopBackOff", **crashed(4))
    with pytest.raises(FatalStateError, match=r"exited with 4$"):
        explain_unready([pod(status)], log=log_reader(api, namespace="models"))


def test_only_the_pod_that_failed_is_replaced_and_only_once() -> None:
    failed = pod(waiting("CrashLoopBackOff", **crashed(1)), name="failed")
    starting = pod(waiting("PodInitializing"), name="starting")
    api = FakeKubernetes([failed, starting])
    describe = replacing_failed(
        api,
        lambda: explain_unready(api.list(POD, namespace="models")) or None,
        lambda: api.list(POD),
    )
    assert "replaced it, because the pod failed cannot become ready" in str(describe())
    assert [gone.name for gone in api.deleted] == ["failed"]
    api.put(pod(waiting("CrashLoopBackOff", **crashed(1)), name="again"))
    with pytest.raises(FatalStateError, match="the pod again cannot become ready"):
        describe()


def test_a_pod_that_has_the_name_of_the_failed_one_by_now_is_left() -> None:
    failed = pod(waiting("CrashLoopBackOff", **crashed(1)))
    api = FakeKubernetes([failed])
    describe = replacing_failed(api, lambda: explain_unready([failed]), lambda: [failed])
    api.put(pod(running(), metadata={"uid": "another"}))
    describe()
    assert api.deleted == []
