-- What wrk sends, and its result as the JSON that benchmarks/load.py reads; its times are in µs.
wrk.method = "POST"
wrk.body = os.getenv("WRK_BODY")

function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "errors": %d, "seconds": %f, "mean": %f, "p50": %f, "p99": %f}\n',
    summary.requests,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout,
    summary.duration / 1e6, latency.mean / 1e3,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
