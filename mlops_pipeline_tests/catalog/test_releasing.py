"""What is refused of a plan for releases, before anything is released."""

import math
from typing import Any

import pytest

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step, faults


@pytest.mark.parametrize(
    "spec",
    [
        ReleaseSpec(),
        ReleaseSpec("canary"),
        ReleaseSpec("canary", steps=(Step(1), Step(100))),
        ReleaseSpec("shadow", steps=(Step(20),)),
        ReleaseSpec("blue_green", steps=(Step(100, answers=0),)),
        ReleaseSpec("ab", steps=(Step(30),), sticky="cookie:session_id"),
        ReleaseSpec("canary", sticky="header:x-user", max_disagreement=0.5, keep_seconds=0),
    ],
)
def test_a_plan_that_can_be_followed_has_no_faults(spec: ReleaseSpec) -> None:
    assert list(faults(spec)) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "slow"}, "strategy is 'slow'; allowed: replace, canary"),
        ({"when_silent": "go"}, "when_silent is 'go'; allowed: wait, roll_back, replay"),
        ({"competing": "both"}, "competing is 'both'; allowed: supersede, wait"),
        ({"alpha": 0}, "alpha is 0; it must be greater than 0 and less than 1"),
        ({"confidence": math.nan}, "confidence is nan"),
        ({"max_errors": True}, "max_errors is True"),
        ({"max_disagreement": 1}, "must be None, or greater than 0 and less than 1"),
        ({"slow_factor": math.inf}, "slow_factor is inf; it must be greater than 1"),
        ({"keep_seconds": -1}, "keep_seconds is -1; it must be 0 to 2592000"),
        ({"approval": "yes"}, "approval is 'yes'; allowed: True, False"),
        ({"sticky": "user"}, "sticky is 'user'; it must be header:NAME or cookie:NAME"),
        ({"sticky": None}, "sticky is None"),
        ({"sticky": "header:a b"}, "at most 64 letters, digits and -_."),
        ({"strategy": "shadow", "sticky": "header:a"}, "nobody gets the answers of a shadow"),
        ({"steps": [Step(5)]}, "it must be a tuple of Step"),
        ({"steps": (Step(5),) * 21}, "has 21 steps; at most 20 are allowed"),
        ({"steps": (Step(5), Step(0))}, "step 2: share is 0; it must be an integer from 1 to 100"),
        ({"steps": (Step(5, answers=-1),)}, "step 1: answers is -1; it must be an integer from 0"),
        ({"steps": (Step(5, seconds=math.inf),)}, "step 1: seconds is inf"),
        ({"steps": (Step(50), Step(25))}, "[50, 25]; those of a canary must rise"),
        ({"strategy": "blue_green", "steps": (Step(50),)}, "blue_green has one step of 100 %"),
        ({"strategy": "ab", "steps": (Step(100),)}, "ab has one step of less than 100 %"),
        ({"strategy": "replace", "steps": (Step(5),)}, "the strategy replace has no steps"),
    ],
)
def test_each_fault_is_named_with_its_value(fields: dict[str, Any], message: str) -> None:
    found = list(faults(ReleaseSpec(**{"strategy": "canary", **fields})))
    assert any(message in fault for fault in found), found
