// Runs the official Node SDK with a persistent store until its input ends: what its stream says, it writes.
//
//   node writer.js redis ADDRESS PREFIX STREAM
const { init } = require("@launchdarkly/node-server-sdk");
const { RedisFeatureStore } = require("@launchdarkly/node-server-sdk-redis");

const [store, address, prefix, stream] = process.argv.slice(2);
if (store !== "redis") throw new Error(`no such store: ${store}`);

const { hostname, port } = new URL(address);
const client = init("sdk-key", {
  streamUri: stream,
  baseUri: stream,
  sendEvents: false,
  featureStore: RedisFeatureStore({ redisOpts: { host: hostname, port: Number(port) }, prefix }),
});
process.stdin.on("end", () => {
  client.close();
  process.exit(0);
});
process.stdin.resume();
