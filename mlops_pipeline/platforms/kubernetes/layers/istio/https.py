"""Port 443 of the gateway: its certificate is in a Secret that follows the settings."""

from pathlib import Path

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.clients.files import write_if_changed
from mlops_pipeline.clients.kubernetes import SECRET, KubernetesApi, Manifest
from mlops_pipeline.platforms.kubernetes.layers.istio import tls
from mlops_pipeline.platforms.kubernetes.layers.istio.charts import NAMESPACE
from mlops_pipeline.platforms.kubernetes.objects.endings import find_lasting, wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.ownership import delete_ours, require_ours
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.kubernetes.parts.endpoints import Endpoint
from mlops_pipeline.platforms.layers import Broken, Drifted, Facts, Finding, LayerState, Ready

PORT = 443
_GLANCE = 5.0


class Https:
    """The certificate, from the source in the setting istio.tls."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings.istio

    @property
    def wanted(self) -> bool:
        """Whether the gateway has a port 443."""
        return self._settings.tls != "off"

    def observe(self, api: KubernetesApi, endpoint: Endpoint) -> LayerState:
        """Compare the certificate in the cluster with the expected one."""
        if not self.wanted:
            return Ready()
        found = self._find(api)
        if found is None:
            return Broken(f"the Secret {NAMESPACE}/{tls.SECRET} of port 443 is missing")
        if self._settings.tls == "files":
            return self._compare_with_files(found)
        unfit = tls.describe_unfit(tls.pair_in(found), address=endpoint.host, now=tls.utc_now())
        return Drifted((unfit,)) if unfit else Ready()

    def require(self, api: KubernetesApi, endpoint: Endpoint | None) -> None:
        """Refuse files without a certificate for the address, and a Secret of somebody else.

        `endpoint` is None while the gateway has no address.

        Raises:
            ConfigurationError: names the file, and what is wrong with it.
            ConflictError: the Secret exists and is not ours.
        """
        if self._settings.tls == "files":
            self._read_files()
        if endpoint is not None:
            self._refuse_another_name(endpoint.host)
        if self.wanted:
            require_ours(
                api,
                SECRET,
                tls.SECRET,
                namespace=NAMESPACE,
                to="write the certificate of port 443",
                remedy=f"delete it, or set {self._table}.tls to off",
            )

    def ensure(self, api: KubernetesApi, endpoint: Endpoint) -> None:
        """Write the Secret, with a new certificate only if the old one must be replaced.

        Raises:
            ConfigurationError: the certificate in the files cannot be used.
            ConflictError: the Secret exists and is not ours.
        """
        if not self.wanted:
            self.remove(api)
            return
        self.require(api, endpoint)
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        wait_for_end(api, SECRET, tls.SECRET, namespace=NAMESPACE, timeout=timeout, clock=clock)
        if not isinstance(self.observe(api, endpoint), Ready):
            pair = (
                self._read_files()
                if self._settings.tls == "files"
                else tls.make(endpoint.host, now=tls.utc_now())
            )
            api.apply(pair.manifest(NAMESPACE))
        write_if_changed(self._file, self.chain(api))

    def remove(self, api: KubernetesApi) -> None:
        """Delete the Secret if it is ours."""
        delete_ours(api, SECRET, tls.SECRET, namespace=NAMESPACE)
        self._file.unlink(missing_ok=True)

    def chain(self, api: KubernetesApi) -> str:
        """Return the certificates of port 443 as PEM; empty without TLS.

        A client that trusts them needs no other certificate.
        """
        found = self._find(api) if self.wanted else None
        return tls.chain_in(found) if found is not None else ""

    def facts(self, api: KubernetesApi) -> Facts:
        """Return the end of the certificate, and where clients find it."""
        chain = self.chain(api)
        if not chain:
            return {}
        end = f"{tls.end_of(chain):%Y-%m-%d}"
        return {"certificate": str(self._file), "certificate_ends": end}

    def describe_other(self, api: KubernetesApi, endpoint: Endpoint) -> str | None:
        """Say why port 443 does not present our certificate; None if it does, or has no TLS."""
        if not self.wanted:
            return None
        host, port = endpoint.host, endpoint.port(PORT)
        try:
            shown = http.certificate_at(host, port, timeout=_GLANCE)
        except UnavailableError as error:
            return str(error)
        if not (ours := self.chain(api)):
            return f"the Secret {NAMESPACE}/{tls.SECRET} of port 443 is missing"
        if not tls.is_same(shown, ours):
            return (
                f"{host}:{port} presents another certificate than the one in the Secret "
                f"{tls.SECRET}"
            )
        return None

    def try_certificate(self, api: KubernetesApi, endpoint: Endpoint) -> Finding:
        """Examine the certificate that the port presents."""
        other = self.describe_other(api, endpoint)
        if other is not None:
            return Finding(passed=False, seen=other)
        end = tls.end_of(self.chain(api))
        shown = f"{endpoint.host}:{endpoint.port(PORT)}"
        seen = f"{shown} presents our certificate, valid until {end:%Y-%m-%d}"
        return Finding(passed=True, seen=seen)

    @property
    def _table(self) -> str:
        return f"{self._parts.settings.platform}.istio"

    @property
    def _file(self) -> Path:
        """Return the file that makes clients trust the gateway: `curl --cacert FILE`."""
        return self._parts.state.home / "gateway.crt"

    def _find(self, api: KubernetesApi) -> Manifest | None:
        return find_lasting(api, SECRET, tls.SECRET, namespace=NAMESPACE)

    def _compare_with_files(self, found: Manifest) -> LayerState:
        try:
            wanted = self._read_files().manifest(NAMESPACE)
        except ConfigurationError as error:
            return Broken.by(error)
        if found.get("data") != wanted["data"]:
            return Drifted(("the certificate of port 443 differs from the one in the files",))
        return Ready()

    def _refuse_another_name(self, address: str) -> None:
        """With the redirect, all our clients use https, and they know only the address."""
        if self._settings.tls != "files" or not self._settings.https_redirect:
            return
        if not tls.names(self._read_files().chain, address):
            raise ConfigurationError(
                f"could not redirect to https: the certificate {self._settings.certificate} is not "
                f"for {address}, which clients use; use one that names it, or set "
                f"{self._table}.https_redirect to false"
            )

    def _read_files(self) -> tls.KeyPair:
        certificate, key = self._settings.certificate, self._settings.private_key
        if certificate is None or key is None:
            raise ConfigurationError(f"{self._table}.tls = files needs certificate and private_key")
        return tls.read(certificate, key, table=self._table)
