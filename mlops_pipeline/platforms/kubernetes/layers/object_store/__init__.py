"""The object store: SeaweedFS in the cluster, or an existing S3."""
