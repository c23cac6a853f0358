import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** Aggregates of streams, windowed or not, and of tables. */
final class Aggregates {
    private static final Grouped<Object, Row> GROUPED = Grouped.with(Graph.KEYS, Graph.ROWS);

    /**
     * The topology language's. Kafka Streams' own, length and grace, loses final results: where time leaps, its store does not find
     * a window any more when it is to be emitted.
     */
    private static final Duration RETENTION_DEFAULT = Duration.ofDays(1);

    private Aggregates() {}

    static KTable<?, Row> ofStream(Graph graph, String name, JsonNode table) {
        KStream<Object, Row> rows = graph.streamByBaseKey(table.get("from").asText());
        KGroupedStream<Object, Row> grouped = rows.groupByKey(GROUPED);
        if (table.has("group_by")) {
            Cel groupBy = Cel.of(table.get("group_by").asText());
            grouped = rows.groupBy((key, row) -> row == null ? null : groupBy.eval(Roots.row(key, row)), GROUPED);
        }
        Fold fold = Fold.of(table);
        if (!table.has("window")) {
            return grouped.aggregate(fold::initial, fold::add, Tables.store(name, table)).mapValues(fold::result);
        }
        JsonNode window = table.get("window");
        EmitStrategy emit = table.path("emit").asText().equals("on_close") ? EmitStrategy.onWindowClose() : EmitStrategy.onWindowUpdate();
        if (window.has("session")) {
            return sessions(grouped, name, window, emit, fold);
        }
        Materialized<Object, Row, WindowStore<Bytes, byte[]>> store = store(name, window);
        return windows(grouped, window).emitStrategy(emit).aggregate(fold::initial, fold::add, store).mapValues(fold::result);
    }

    private static TimeWindowedKStream<Object, Row> windows(KGroupedStream<Object, Row> grouped, JsonNode window) {
        Duration grace = Times.parse(window.get("grace"));
        if (window.has("sliding")) {
            return grouped.windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(Times.parse(window.get("sliding")), grace));
        }
        if (window.has("hopping")) {
            TimeWindows windows = TimeWindows.ofSizeAndGrace(Times.parse(window.get("hopping")), grace);
            return grouped.windowedBy(windows.advanceBy(Times.parse(window.get("advance"))));
        }
        return grouped.windowedBy(TimeWindows.ofSizeAndGrace(Times.parse(window.get("tumbling")), grace));
    }

    private static KTable<Windowed<Object>, Row> sessions(
        KGroupedStream<Object, Row> grouped, String name, JsonNode window, EmitStrategy emit, Fold fold) {
        Duration gap = Times.parse(window.get("session"));
        Materialized<Object, Row, SessionStore<Bytes, byte[]>> store = store(name, window);
        return grouped.windowedBy(SessionWindows.ofInactivityGapAndGrace(gap, Times.parse(window.get("grace"))))
            .emitStrategy(emit)
            .aggregate(fold::initial, fold::add, (key, earlier, later) -> fold.merge(earlier, later), store)
            .mapValues(fold::result);
    }

    private static <S extends StateStore> Materialized<Object, Row, S> store(String name, JsonNode window) {
        Materialized<Object, Row, S> store = Materialized.as(name);
        store.withKeySerde(Graph.KEYS).withValueSerde(Graph.ROWS).withCachingDisabled();
        return store.withRetention(window.has("retention") ? Times.parse(window.get("retention")) : RETENTION_DEFAULT);
    }

    /** Rows that change or go are taken out of the result that they were in. */
    static KTable<Object, Row> ofTable(Graph graph, String name, JsonNode table) {
        Cel groupBy = Cel.of(table.get("group_by").asText());
        Fold fold = table.has("fold") ? Fold.of(table) : new Functions(table.get("select"), true);
        return graph.table(table.get("from").asText())
            .groupBy((key, row) -> KeyValue.pair(groupBy.eval(Roots.row(key, row)), row), GROUPED)
            .aggregate(fold::initial, fold::add, fold::subtract, Tables.store(name, table))
            .mapValues(fold::result);
    }
}
