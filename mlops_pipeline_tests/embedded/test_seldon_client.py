"""Seldon's own Python client, the judge of our wire format, through the gateway."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_pipeline_tests.command_line import CommandLine

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

CLIENT = Path(sys.prefix) / "seldon-client" / "bin" / "python"
REQUEST = """
import sys
from seldon_core.seldon_client import SeldonClient

endpoint, transport = sys.argv[1:]
client = SeldonClient(
    deployment_name="tfserving", namespace="seldon", gateway="istio", gateway_endpoint=endpoint
)
answer = client.predict(transport=transport, shape=(1, 784))
assert answer.success, answer.msg
print(answer.response)
"""


@pytest.mark.skipif(
    not CLIENT.exists(), reason="`make test` installs Seldon's client; run that, or its target"
)
@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_a_random_digit_is_answered(command_line: CommandLine, transport: str) -> None:
    endpoint = command_line.status()["gateway"].removeprefix("http://")
    done = subprocess.run(
        [str(CLIENT), "-W", "ignore", "-c", REQUEST, endpoint, transport],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "'shape': [1, 10]" in done.stdout
    assert command_line.digest("mnist") in done.stdout
