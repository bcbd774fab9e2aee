// In the store's own package, for its constructor.
package com.launchdarkly.sdk.server.integrations;

import com.launchdarkly.logging.LDLogger;
import com.launchdarkly.sdk.server.Components;
import com.launchdarkly.sdk.server.LDClient;
import com.launchdarkly.sdk.server.LDConfig;
import com.launchdarkly.sdk.server.subsystems.DataStoreTypes.DataKind;
import com.launchdarkly.sdk.server.subsystems.DataStoreTypes.FullDataSet;
import com.launchdarkly.sdk.server.subsystems.DataStoreTypes.ItemDescriptor;
import com.launchdarkly.sdk.server.subsystems.DataStoreTypes.KeyedItems;
import com.launchdarkly.sdk.server.subsystems.DataStoreTypes.SerializedItemDescriptor;
import com.launchdarkly.sdk.server.subsystems.PersistentDataStore;
import java.io.IOException;
import java.net.URI;
import java.util.HashMap;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * Runs the official Java SDK with a persistent store until its input ends: what its stream says, it writes.
 *
 * <pre>Writer redis ADDRESS PREFIX STREAM</pre>
 */
public class Writer {
  public static void main(String[] args) throws Exception {
    if (!args[0].equals("redis")) throw new IllegalArgumentException("no such store: " + args[0]);
    RedisDataStoreBuilder redis = Redis.dataStore().uri(URI.create(args[1])).prefix(args[2]);
    PersistentDataStore store = new Adapter(new RedisDataStoreImpl(redis, LDLogger.none()));
    LDConfig config =
        new LDConfig.Builder()
            .serviceEndpoints(Components.serviceEndpoints().relayProxy(args[3]))
            .events(Components.noEvents())
            .dataStore(Components.persistentDataStore(context -> store))
            .build();
    try (LDClient client = new LDClient("sdk-key", config)) {
      while (System.in.read() >= 0) {}
    }
  }

  /** The official store, which was made for release 5 of the SDK, as release 7 wants it: other names, the same items. */
  private static class Adapter implements PersistentDataStore {
    private final com.launchdarkly.sdk.server.interfaces.PersistentDataStore store;
    private final Map<String, com.launchdarkly.sdk.server.interfaces.DataStoreTypes.DataKind> kinds = new HashMap<>();

    Adapter(com.launchdarkly.sdk.server.interfaces.PersistentDataStore store) {
      this.store = store;
    }

    @Override
    public void init(FullDataSet<SerializedItemDescriptor> data) {
      store.init(
          new com.launchdarkly.sdk.server.interfaces.DataStoreTypes.FullDataSet<>(
              stream(data.getData())
                  .map(of -> Map.entry(old(of.getKey()), old(of.getValue())))
                  .collect(Collectors.toList())));
    }

    @Override
    public boolean upsert(DataKind kind, String key, SerializedItemDescriptor item) {
      return store.upsert(old(kind), key, old(item));
    }

    @Override
    public SerializedItemDescriptor get(DataKind kind, String key) {
      throw new UnsupportedOperationException("this program only writes");
    }

    @Override
    public KeyedItems<SerializedItemDescriptor> getAll(DataKind kind) {
      throw new UnsupportedOperationException("this program only writes");
    }

    @Override
    public boolean isInitialized() {
      return store.isInitialized();
    }

    @Override
    public boolean isStoreAvailable() {
      return store.isStoreAvailable();
    }

    @Override
    public void close() throws IOException {
      store.close();
    }

    private com.launchdarkly.sdk.server.interfaces.DataStoreTypes.DataKind old(DataKind kind) {
      return kinds.computeIfAbsent(
          kind.getName(),
          name ->
              new com.launchdarkly.sdk.server.interfaces.DataStoreTypes.DataKind(
                  name,
                  item -> kind.serialize(new ItemDescriptor(item.getVersion(), item.getItem())),
                  text -> {
                    var item = kind.deserialize(text);
                    return new com.launchdarkly.sdk.server.interfaces.DataStoreTypes.ItemDescriptor(
                        item.getVersion(), item.getItem());
                  }));
    }

    private com.launchdarkly.sdk.server.interfaces.DataStoreTypes.KeyedItems<
            com.launchdarkly.sdk.server.interfaces.DataStoreTypes.SerializedItemDescriptor>
        old(KeyedItems<SerializedItemDescriptor> items) {
      return new com.launchdarkly.sdk.server.interfaces.DataStoreTypes.KeyedItems<>(
          stream(items.getItems())
              .map(of -> Map.entry(of.getKey(), old(of.getValue())))
              .collect(Collectors.toList()));
    }

    private static com.launchdarkly.sdk.server.interfaces.DataStoreTypes.SerializedItemDescriptor old(
        SerializedItemDescriptor item) {
      return new com.launchdarkly.sdk.server.interfaces.DataStoreTypes.SerializedItemDescriptor(
          item.getVersion(), item.isDeleted(), item.getSerializedItem());
    }

    private static <T> Stream<T> stream(Iterable<T> items) {
      return StreamSupport.stream(items.spliterator(), false);
    }
  }
}
