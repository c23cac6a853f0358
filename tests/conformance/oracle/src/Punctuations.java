import com.fasterxml.jackson.databind.JsonNode;
import java.util.Map;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.TimestampedKeyValueStore;
import org.apache.kafka.streams.state.ValueAndTimestamp;

/** Goes through a table's store again and again: a processor that is given the table's changes, does nothing with them, and has its store. */
final class Punctuations {
    private Punctuations() {}

    static KStream<Object, Row> of(Graph graph, JsonNode table) {
        String store = table.get("table").asText();
        return graph.table(store).toStream().process(() -> new Scan(table, store), store);
    }

    private static final class Scan extends ContextualProcessor<Object, Row, Object, Row> {
        private final JsonNode table;
        private final String store;
        private final Cel where;
        private final Map<String, Cel> select;

        Scan(JsonNode table, String store) {
            this.table = table;
            this.store = store;
            where = table.has("where") ? Cel.of(table.get("where").asText()) : null;
            select = Roots.fields(table.get("select"));
        }

        @Override
        public void init(ProcessorContext<Object, Row> context) {
            super.init(context);
            boolean wall = table.path("clock").asText("stream_time").equals("wall_clock_time");
            PunctuationType type = wall ? PunctuationType.WALL_CLOCK_TIME : PunctuationType.STREAM_TIME;
            context.schedule(Times.parse(table.get("every")), type, this::scan);
        }

        private void scan(long time) {
            TimestampedKeyValueStore<Object, Row> rows = context().getStateStore(store);
            try (KeyValueIterator<Object, ValueAndTimestamp<Row>> all = rows.all()) {
                while (all.hasNext()) {
                    KeyValue<Object, ValueAndTimestamp<Row>> entry = all.next();
                    Map<String, Object> roots = Roots.at(Roots.row(entry.key, entry.value.value()), time);
                    if (where == null || where.test(roots)) {
                        context().forward(new Record<>(entry.key, Row.of(Roots.evaluate(select, roots)), time));
                    }
                }
            }
        }

        @Override
        public void process(Record<Object, Row> record) {}
    }
}
