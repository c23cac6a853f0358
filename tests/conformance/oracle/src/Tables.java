import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Tables of topics, streams and tables, and what holds their changes back. */
final class Tables {
    private Tables() {}

    static KTable<Object, Row> source(Graph graph, String name, JsonNode table) {
        return graph.builder.table(table.get("topic").asText(), Streams.consumed(graph, table), store(name, table));
    }

    static GlobalKTable<Object, Row> global(Graph graph, String name, JsonNode table) {
        return graph.builder.globalTable(table.get("topic").asText(), Streams.consumed(graph, table), store(name, table));
    }

    /** A store of rows by key; without a cache each change is forwarded. */
    static Materialized<Object, Row, KeyValueStore<Bytes, byte[]>> store(String name, JsonNode table) {
        Materialized<Object, Row, KeyValueStore<Bytes, byte[]>> store = table.has("versioned")
            ? Materialized.as(Stores.persistentVersionedKeyValueStore(name, Times.parse(table.get("versioned"))))
            : Materialized.as(name);
        return store.withKeySerde(Graph.KEYS).withValueSerde(Graph.ROWS).withCachingDisabled();
    }

    static KTable<Object, Row> derived(Graph graph, String name, JsonNode table) {
        String from = table.get("from").asText();
        if (!graph.isTable(from)) {
            return graph.streamByBaseKey(from).toTable(store(name, table));
        }
        KTable<Object, Row> rows = graph.table(from);
        if (table.has("where")) {
            Cel where = Cel.of(table.get("where").asText());
            rows = rows.filter((key, row) -> where.test(Roots.row(key, row)));
        }
        Streams.Shape shape = Streams.Shape.of(table);
        return shape == null ? rows : rows.mapValues((key, row) -> shape.apply(row, Roots.row(key, row)));
    }

    static KTable<Object, Row> suppressed(Graph graph, JsonNode table) {
        KTable<Object, Row> rows = graph.table(table.get("from").asText());
        if (table.get("until").asText().equals("window_close")) {
            return untilWindowClose(rows);
        }
        Duration limit = Times.parse(table.get("until"));
        boolean stop = table.path("when_full").asText().equals("stop");
        BufferConfig<?> buffer = BufferConfig.unbounded();
        if (table.has("max_records")) {
            BufferConfig<?> bounded = BufferConfig.maxRecords(table.get("max_records").longValue());
            buffer = stop ? bounded.shutDownWhenFull() : bounded.emitEarlyWhenFull();
        }
        return rows.suppress(Suppressed.untilTimeLimit(limit, buffer));
    }

    /** The keys are windowed, which only the compiler does not know. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    private static KTable<Object, Row> untilWindowClose(KTable rows) {
        return rows.suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded()));
    }
}
