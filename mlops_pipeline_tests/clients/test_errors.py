import inspect

from mlops_pipeline.clients import errors


def _drawn_tree(text: str) -> dict[str, str]:
    """Read name → parent off the lines of the drawing, by the column where each name starts."""
    above: list[tuple[int, str]] = []
    parents = {}
    for line in text.splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if not name.endswith("Error"):
            continue
        column = line.index(name)
        while above and above[-1][0] >= column:
            above.pop()
        parents[name] = above[-1][1] if above else ""
        above.append((column, name))
    return parents


def test_the_drawn_tree_is_the_tree_of_the_classes() -> None:
    classes = [
        error
        for _, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, errors.PipelineError)
    ]
    real = {
        e.__name__: "" if e is errors.PipelineError else e.__bases__[0].__name__ for e in classes
    }
    assert _drawn_tree(errors.__doc__ or "") == real


def test_a_wait_that_ran_out_may_be_retried_and_a_fatal_state_may_not() -> None:
    assert issubclass(errors.WaitTimeoutError, errors.UnavailableError)
    assert not issubclass(errors.FatalStateError, errors.UnavailableError)
