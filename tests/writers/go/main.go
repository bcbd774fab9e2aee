// Runs the official Go SDK with a persistent store until its input ends: what its stream says, it writes.
//
//	writer redis|dynamodb|consul ADDRESS PREFIX STREAM
//
// ADDRESS is a URL, a host and port, or, for DynamoDB, the table and the endpoint's URL with a comma between them.
package main

import (
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/hashicorp/consul/api"
	ldconsul "github.com/launchdarkly/go-server-sdk-consul/v3"
	lddynamodb "github.com/launchdarkly/go-server-sdk-dynamodb/v4"
	ldredis "github.com/launchdarkly/go-server-sdk-redis-redigo/v3"
	ld "github.com/launchdarkly/go-server-sdk/v7"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"
	"github.com/launchdarkly/go-server-sdk/v7/subsystems"
)

func main() {
	kind, address, prefix, stream := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	var store subsystems.ComponentConfigurer[subsystems.PersistentDataStore]
	switch kind {
	case "redis":
		store = ldredis.DataStore().URL(address).Prefix(prefix)
	case "dynamodb":
		table, endpoint, _ := strings.Cut(address, ",")
		local := func(options *dynamodb.Options) { options.BaseEndpoint = &endpoint }
		store = lddynamodb.DataStore(table).Prefix(prefix).ClientOptions(dynamodb.Options{}, local)
	case "consul":
		store = ldconsul.DataStore().Config(api.Config{Address: address}).Prefix(prefix)
	default:
		log.Fatal("no such store: ", kind)
	}
	client, err := ld.MakeCustomClient("sdk-key", ld.Config{
		ServiceEndpoints: ldcomponents.RelayProxyEndpointsWithoutEvents(stream),
		DataStore:        ldcomponents.PersistentDataStore(store),
		Events:           ldcomponents.NoEvents(),
	}, 20*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = client.Close()
}
