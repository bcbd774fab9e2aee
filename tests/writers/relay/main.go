// Runs the official Relay Proxy in offline mode: reads a flag archive, writes it into a store, and again whenever the
// archive changes, until its input ends. Without the HTTP side: no port is opened.
//
//	writer redis|dynamodb|consul ADDRESS PREFIX ARCHIVE
//
// ADDRESS is a URL, a host and port, or, for DynamoDB, the table and the endpoint's URL with a comma between them.
//
// It also forwards events, with its HTTP side on ADDRESS and without a store: reads flags from a streaming service, and
// sends what it makes of the events that it is given to another service.
//
//	writer events ADDRESS EVENTS-URL STREAM-URL
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	ct "github.com/launchdarkly/go-configtypes"
	"github.com/launchdarkly/go-sdk-common/v3/ldlog"
	"github.com/launchdarkly/ld-relay/v8/config"
	"github.com/launchdarkly/ld-relay/v8/relay"
)

func main() {
	store, address, prefix, archive := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	var c config.Config
	if store == "events" {
		c.Environment = map[string]*config.EnvConfig{"test": {SDKKey: "sdk-key"}}
		c.Main.StreamURI = url(archive)
		c.Events.SendEvents = true
		c.Events.EventsURI = url(prefix)
		c.Events.FlushInterval = ct.NewOptDuration(100 * time.Millisecond)
		r := started(c)
		go func() { log.Fatal(http.ListenAndServe(address, r)) }()
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = r.Close()
		return
	}
	c.OfflineMode.FileDataSource = archive
	c.OfflineMode.FileDataSourceMonitoringInterval = ct.NewOptDuration(100 * time.Millisecond)
	c.OfflineMode.EnvDatastorePrefix = prefix
	switch store {
	case "redis":
		c.Redis.URL = url(address)
	case "dynamodb":
		table, endpoint, _ := strings.Cut(address, ",")
		c.DynamoDB.Enabled = true
		c.DynamoDB.URL = url(endpoint)
		c.OfflineMode.EnvDatastoreTableName = table
	case "consul":
		c.Consul.Host = address
	default:
		log.Fatal("no such store: ", store)
	}
	r := started(c)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = r.Close()
}

func started(c config.Config) *relay.Relay {
	if err := config.ValidateConfig(&c, ldlog.NewDefaultLoggers()); err != nil {
		log.Fatal(err)
	}
	r, err := relay.NewRelay(c, ldlog.NewDefaultLoggers(), nil)
	if err != nil {
		log.Fatal(err)
	}
	return r
}

func url(text string) ct.OptURLAbsolute {
	parsed, err := ct.NewOptURLAbsoluteFromString(text)
	if err != nil {
		log.Fatal(err)
	}
	return parsed
}
