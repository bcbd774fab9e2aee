module writer

go 1.24.0

require github.com/launchdarkly/ld-relay/v8 v8.19.0

// An exporter of metrics that is never switched on and would bring in all of Google Cloud's client.
replace github.com/launchdarkly/opencensus-go-exporter-stackdriver => ./stackdriver
