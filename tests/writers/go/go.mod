module writer

go 1.24.0

require (
	github.com/launchdarkly/go-server-sdk-consul/v3 v3.0.0
	github.com/launchdarkly/go-server-sdk-dynamodb/v4 v4.0.0
	github.com/launchdarkly/go-server-sdk-redis-redigo/v3 v3.0.0
	github.com/launchdarkly/go-server-sdk/v7 v7.14.1
)

// The same as the Relay Proxy has, so that each is compiled once for both.
require (
	github.com/aws/aws-sdk-go-v2 v1.24.1
	github.com/aws/aws-sdk-go-v2/config v1.26.6
	github.com/aws/aws-sdk-go-v2/service/dynamodb v1.27.0
	github.com/gomodule/redigo v1.8.9
	github.com/hashicorp/consul/api v1.27.0
	github.com/launchdarkly/eventsource v1.11.0
	golang.org/x/exp v0.0.0-20250620022241-b7579e27df2b
	golang.org/x/sync v0.19.0
)
