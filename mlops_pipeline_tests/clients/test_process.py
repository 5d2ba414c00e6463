import os
import signal
import subprocess
import threading
from pathlib import Path

import psutil
import pytest

from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.process import pipe, run
from mlops_pipeline.clients.waiting import wait_until


def _wait_until_dead(pid: int) -> None:
    def alive() -> str | None:
        try:
            status = psutil.Process(pid).status()
        except psutil.NoSuchProcess:
            return None
        return None if status == psutil.STATUS_ZOMBIE else f"it is {status}"

    wait_until(f"the end of process {pid}", alive, timeout=5, interval=0.01)


def test_it_returns_standard_output_only() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"], purpose="try", timeout=5) == "out\n"


def test_input_reaches_the_program_and_no_input_means_end_of_file() -> None:
    assert run(["cat"], purpose="try", timeout=5, stdin="a\nb") == "a\nb"
    assert run(["cat"], purpose="try", timeout=5) == ""


def test_input_can_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"a\xff")
    assert run(["wc", "-c"], purpose="try", timeout=5, stdin=tmp_path / "bytes").strip() == "2"
    with pytest.raises(CommandError, match=r"could not try: .*none cannot be read: No such file"):
        run(["cat"], purpose="try", timeout=5, stdin=tmp_path / "none")


def test_the_environment_is_added_to_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    shown = run(
        ["sh", "-c", 'echo "$OURS $THEIRS"'],
        purpose="try",
        timeout=5,
        environment={"THEIRS": "2"},
    )
    assert shown == "1 2\n"


def test_it_runs_in_the_folder(tmp_path: Path) -> None:
    assert run(["pwd", "-P"], purpose="try", timeout=5, directory=tmp_path) == f"{tmp_path}\n"


def test_bytes_that_are_no_text_do_not_break_it() -> None:
    assert run(["printf", r"a\377b"], purpose="try", timeout=5) == "a\ufffdb"


def test_a_failure_shows_purpose_command_code_and_both_streams() -> None:
    command = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    with pytest.raises(CommandError) as caught:
        run(command, purpose="start supervisord", timeout=5)
    assert str(caught.value) == (
        "could not start supervisord: "
        "`sh -c 'echo out; echo err >&2; exit 3'` exited with 3\n"
        "--- end of standard error ---\nerr\n"
        "--- end of standard output ---\nout"
    )


def test_a_flood_of_output_is_cut_to_its_end() -> None:
    flood = "yes | head -n 20000 >&2; echo the reason >&2; exit 1"
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", flood], purpose="try", timeout=5)
    assert str(caught.value).endswith("the reason")
    assert len(str(caught.value)) < 2_500


def test_a_program_that_a_signal_ended_is_a_failure() -> None:
    with pytest.raises(CommandError, match="exited with -9"):
        run(["sh", "-c", "kill -9 $$"], purpose="try", timeout=5)


def test_a_missing_program_is_named_with_what_to_do() -> None:
    with pytest.raises(CommandError, match=r"could not start Envoy: `no-such`.*make up") as caught:
        run(["no-such"], purpose="start Envoy", timeout=5)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_missing_external_program_has_its_own_remedy() -> None:
    with pytest.raises(CommandError, match=r"`no-such` was not found; install Docker$"):
        run(["no-such"], purpose="try", timeout=5, remedy="install Docker")


def test_a_missing_folder_is_not_reported_as_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"the folder .*gone does not exist"):
        run(["sh"], purpose="try", timeout=5, directory=tmp_path / "gone")


def test_a_file_that_is_not_executable_is_an_error_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")
    with pytest.raises(CommandError, match=r"did not start: .*Permission denied") as caught:
        run([str(tmp_path / "text")], purpose="try", timeout=5)
    assert isinstance(caught.value.__cause__, PermissionError)


def test_a_timeout_shows_the_output_and_leaves_no_process() -> None:
    with pytest.raises(CommandError, match=r"was killed after its timeout of 0\.3 s") as caught:
        run(["sh", "-c", "sleep 60 & echo $!; wait"], purpose="try", timeout=0.3)
    assert isinstance(caught.value.__cause__, subprocess.TimeoutExpired)
    _wait_until_dead(int(str(caught.value).splitlines()[-1]))


@pytest.mark.timeout(10)
def test_a_daemon_that_keeps_the_pipes_open_does_not_hang_the_timeout() -> None:
    script = "setsid sleep 30 & echo $!; wait"
    with pytest.raises(CommandError, match=r"was killed after its timeout of 0\.3 s") as caught:
        run(["sh", "-c", script], purpose="try", timeout=0.3)
    os.kill(int(str(caught.value).splitlines()[-1]), signal.SIGKILL)


def test_an_interrupted_wait_leaves_no_process(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(
                ["sh", "-c", "echo $$ > pid; sleep 60"],
                purpose="try",
                timeout=60,
                directory=tmp_path,
            )
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    _wait_until_dead(int((tmp_path / "pid").read_text()))


def test_lines_are_passed_on_while_the_command_runs(tmp_path: Path) -> None:
    go, lines = tmp_path / "go", list[tuple[str, str]]()

    def take(stream: str, line: str) -> None:
        lines.append((stream, line))
        go.touch()  # The command waits for this, after its first line.

    script = f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two >&2; printf end"
    shown = run(["sh", "-c", script], purpose="try", timeout=60, on_line=take)

    assert lines[0] == ("out", "one\n")
    assert set(lines) == {("out", "one\n"), ("err", "two\n"), ("out", "end")}
    assert shown == "one\nend"


def test_a_failure_that_was_followed_shows_the_end_of_its_output() -> None:
    flood = "yes | head -n 20000; echo the reason >&2; exit 3"
    lines = list[str]()
    with pytest.raises(CommandError, match="exited with 3") as caught:
        run(["sh", "-c", flood], purpose="try", timeout=60, on_line=lambda _, t: lines.append(t))
    assert "the reason" in str(caught.value)
    assert len(lines) == 20_001
    assert len(str(caught.value)) < 2_500


def test_a_timeout_that_was_followed_leaves_no_process() -> None:
    script = "sleep 60 & echo $!; wait"
    with pytest.raises(CommandError, match=r"was killed after its timeout of 1 s") as caught:
        run(["sh", "-c", script], purpose="try", timeout=1, on_line=lambda *_: None)
    _wait_until_dead(int(str(caught.value).splitlines()[-1]))


def test_secrets_are_masked_in_what_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "API_TOKEN": "hidden-1",
        "A_KEY": "hidden-12",
        "KEYBOARD": "qwertz-us",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DB_PASSWORD", "short")
    lines = list[str]()
    script = "echo $API_TOKEN $A_KEY $KEYBOARD $DB_PASSWORD; exit 1"
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", script], purpose="try", timeout=60, on_line=lambda _, t: lines.append(t))
    assert lines == ["*** *** qwertz-us short\n"]
    assert "hidden" not in str(caught.value)


def test_each_line_of_a_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = '{\n  "private_key": "hidden-1",\r\n  "id": 7\n}'
    monkeypatch.setenv("GOOGLE_CREDENTIALS", credentials)
    lines = list[str]()
    script = 'printf %s "$GOOGLE_CREDENTIALS"; exit 1'
    with pytest.raises(CommandError) as caught:
        run(_sh(script), purpose="try", timeout=60, on_line=lambda _, t: lines.append(t))
    assert lines == ["{\n", "  ***\n", '  "id": 7\n', "}"]
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("before", [1, 8, 19])
def test_a_secret_is_masked_wherever_a_long_line_is_cut(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setenv("API_TOKEN", "hidden-1-hidden-2-hi")
    lines = list[str]()
    script = f"head -c {8_192 - before} /dev/zero | tr '\\0' x; echo \"$API_TOKEN\"; exit 1"
    with pytest.raises(CommandError) as caught:
        run(_sh(script), purpose="try", timeout=60, on_line=lambda _, t: lines.append(t))
    assert "".join(lines) == "x" * (8_192 - before) + "***\n"
    assert str(caught.value).endswith("xx***")


def test_a_command_runs_on_if_its_output_cannot_be_shown(caplog: pytest.LogCaptureFixture) -> None:
    lines = list[str]()

    def fail(_: str, line: str) -> None:
        lines.append(line)
        raise BrokenPipeError("nobody reads")

    script = "yes | head -n 100000 & yes | head -n 100000 >&2; wait; echo end"
    assert run(_sh(script), purpose="try", timeout=60, on_line=fail).endswith("y\nend\n")
    assert lines == ["y\n"]
    (record,) = caplog.records
    assert "is not shown: BrokenPipeError('nobody reads')" in record.getMessage()


def _sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_one_command_reads_the_output_of_another() -> None:
    written = pipe(["head", "-c", "3000000", "/dev/zero"], ["wc", "-c"], purpose="try", timeout=5)
    assert written.strip() == "3000000"


def test_a_pipe_fails_where_the_first_command_fails() -> None:
    with pytest.raises(CommandError, match=r"could not try: `sh .*` exited with 3") as caught:
        pipe(_sh("echo part; echo why >&2; exit 3"), ["cat"], purpose="try", timeout=5)
    assert str(caught.value).endswith("why")


@pytest.mark.timeout(10)
def test_a_pipe_fails_where_the_second_command_fails_and_ends_the_first() -> None:
    endless = "echo $$ >&2; echo why >&2; while :; do echo x; done"
    with pytest.raises(CommandError, match=r"could not try: `sh .*` exited with 4") as caught:
        pipe(_sh(endless), _sh("read one; exit 4"), purpose="try", timeout=60)
    said = str(caught.value).splitlines()
    assert said[-1] == "why"
    _wait_until_dead(int(said[-2]))


@pytest.mark.timeout(10)
def test_a_pipe_that_takes_too_long_leaves_no_process() -> None:
    with pytest.raises(
        CommandError, match=r"`cat` was killed after its timeout of 0\.3 s(.|\n)*`sh -c"
    ) as caught:
        pipe(_sh("echo $$ >&2; sleep 60"), ["cat"], purpose="try", timeout=0.3)
    _wait_until_dead(int(str(caught.value).splitlines()[-1]))


def test_a_pipe_names_the_command_that_is_missing() -> None:
    with pytest.raises(CommandError, match="`no-such` was not found; get it"):
        pipe(["no-such"], ["cat"], purpose="try", timeout=5, remedy="get it")
    with pytest.raises(CommandError, match="`no-such` was not found; get it"):
        pipe(["true"], ["no-such"], purpose="try", timeout=5, remedy="get it")


def test_a_reader_need_not_read_to_the_end() -> None:
    whole, part = ["head", "-c", "1000000", "/dev/zero"], ["head", "-c", "3"]
    assert pipe(whole, part, purpose="read a part", timeout=30) == "\0\0\0"
