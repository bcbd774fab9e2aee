module github.com/launchdarkly/opencensus-go-exporter-stackdriver

go 1.24.0

require go.opencensus.io v0.24.0
