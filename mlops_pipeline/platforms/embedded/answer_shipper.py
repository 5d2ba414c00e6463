"""The layer that uploads the log of answers, with a key that can only write it."""

import hashlib
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.clients.files import PRIVATE, read_or_empty, write_if_changed
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.platforms import shipper
from mlops_pipeline.platforms.answers import SHIPPER, describe, expired
from mlops_pipeline.platforms.embedded.object_store import SeaweedObjectStore
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.state import answer_spool, answers_in, shipper_config
from mlops_pipeline.platforms.embedded.supervised import LayerParts, SupervisedLayer
from mlops_pipeline.platforms.layers import LayerState
from mlops_pipeline.platforms.store_access import ANSWERS

_SILENT = 60.0
"""Seconds without a look into the spool after which the process hangs."""
_log = logging.getLogger(__name__)


class AnswerShipper(SupervisedLayer):
    """The process that uploads rows, under the supervisor."""

    name = SHIPPER
    title = "The shipper of answers"
    description = "The process that uploads the log of answers to the object store."
    kinds = ("s3",)
    requires = ("supervisor", "object_store")

    def __init__(self, parts: LayerParts) -> None:
        super().__init__(parts)
        self._store = SeaweedObjectStore(parts)
        self._folder = answers_in(self._state)
        self._config = shipper_config(self._state)

    @classmethod
    def is_wanted(cls, settings: EmbeddedOptions) -> bool:
        """Say whether answers are recorded."""
        return settings.answers.enabled

    def is_configured(self) -> bool:
        """Say whether it has a configuration."""
        return self._config.exists()

    def start(self) -> None:
        """Say what will be stored, if it is the first time, and run the process."""
        if not self._spool.exists():
            _log.info("%s", describe(self._settings.answers))
        super().start()

    def program(self) -> Program:
        """Return the process; its configuration is written before."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._spool.mkdir(exist_ok=True, mode=0o700)
        content = self._wanted()
        write_if_changed(self._config, content, mode=PRIVATE)
        command = (sys.executable, "-m", "mlops_pipeline.platforms.shipper", str(self._config))
        # It reads the file once: another content makes another program.
        fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
        return Program(
            self.name,
            command,
            self._folder,
            environment={"CONFIG_FINGERPRINT": fingerprint},
            stop_seconds=10,
        )

    def describe_unready(self, process: SupervisedProcess) -> str | None:
        """Say that it does not look into the spool, or what the last upload failed with."""
        file = shipper.state_file(self._spool)
        try:
            age = time.time() - file.stat().st_mtime
        except FileNotFoundError:
            return f"process {process.pid} has not looked into the spool yet"
        if age > _SILENT:
            return f"process {process.pid} has not looked into the spool for {age:.0f} s"
        problem = shipper.read_state(self._spool).problem
        return f"rows are not uploaded: {problem}" if problem else None

    def differences(self) -> tuple[str, ...]:
        """Say that it runs with another configuration."""
        if read_or_empty(self._config) != self._wanted():
            return ("it runs with another address, key or logger_url",)
        return ()

    def finish(self, state: LayerState) -> LayerState:
        """Delete the rows that are older than the settings keep them, once a day.

        To find them, the whole log is listed.
        """
        days, today = self._settings.answers.retention_days, datetime.now(UTC).date()
        done, wanted = self._folder / "expired.txt", f"{today}, {days} days"
        if read_or_empty(done) == wanted:
            return state
        client = self._store.client()
        for key in expired(client, retention_days=days, today=today):
            client.delete(ANSWERS, key)
        write_if_changed(done, wanted, mode=PRIVATE)
        return state

    def forget(self) -> None:
        """Delete the configuration, which has the key."""
        self._config.unlink(missing_ok=True)

    def facts(self) -> dict[str, str | int | float]:
        """Return where rows go, for how long, and what was done since the process started."""
        done = shipper.read_state(self._spool)
        return {
            "address": f"s3://{ANSWERS}",
            "retention_days": self._settings.answers.retention_days,
            "uploaded_files": done.files,
            "lost_events": done.lost_events,
        }

    @property
    def _spool(self) -> Path:
        return answer_spool(self._state)

    def _wanted(self) -> str:
        key = self._store.find_writer()
        if key is None:
            raise NotFoundError(
                "the object store has no key for the log of answers; run "
                "`mlops-pipeline up object_store`"
            )
        config = shipper.Config(
            endpoint=self._store.endpoint(),
            access_key_id=key.access_key_id,
            secret_access_key=key.secret_access_key,
            spool=str(self._spool),
            logger_url=self._settings.answers.logger_url,
        )
        return config.to_json()
