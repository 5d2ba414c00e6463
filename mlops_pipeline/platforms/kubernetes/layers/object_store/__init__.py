"""The object store: SeaweedFS in the cluster, or an S3 that is there already."""
